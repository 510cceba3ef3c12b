"""The structs that Python hands to the C code, and the check that both sides lay them out alike."""

import ctypes

ABI_VERSION = 1
"""Raise it here and in `csrc/abi.h` with every change of a struct or of a function that Python calls."""


class Shape(ctypes.Structure):
    """`Shape` of csrc/layer.h: a convolution of X (H, W, C) with K kernels, to Y (P, Q, K)."""

    _fields_ = [
        (name, ctypes.c_int64) for name in ("H", "W", "C", "P", "Q", "K", "kernel", "stride", "padding", "few_channels")
    ]


class Layer(ctypes.Structure):
    """`Layer` of csrc/layer.h: a layer of a chain, and its tensors."""

    _fields_ = [
        ("shape", Shape),
        *((name, ctypes.c_int64) for name in ("transposed", "relu", "small_linear", "images")),
        *((name, ctypes.c_int64) for name in ("table_rows", "table_columns")),
        *((name, ctypes.c_void_p) for name in ("in", "out", "weight", "bias", "weight_gradient", "bias_gradient")),
        *((name, ctypes.c_void_p) for name in ("sum", "scale", "shift", "mean", "variance")),
        *((name, ctypes.c_void_p) for name in ("scale_gradient", "shift_gradient")),
        *(("batch_statistics", ctypes.c_int64), ("epsilon", ctypes.c_double)),
    ]


class PictureSizes(ctypes.Structure):
    """`PictureSizes` of csrc/affine.c: pictures (picture_height, picture_width), images (height, width)."""

    _fields_ = [(name, ctypes.c_int64) for name in ("channels", "picture_height", "picture_width", "height", "width")]


class AdamWeight(ctypes.Structure):
    """`AdamWeight` of csrc/adam.c: a weight with its gradient and its moments."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("weight", "mean", "square", "steps", "gradient")),
        ("size", ctypes.c_int64),
    ]


class MuonMatrix(ctypes.Structure):
    """`MuonMatrix` of csrc/muon.c: a weight (height, width) with its gradient and its momentum."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("weight", "momentum", "gradient")),
        *((name, ctypes.c_int64) for name in ("height", "width")),
    ]


def disagreement(library: ctypes.CDLL) -> str:
    """How compiled code differs from the structs above, in a few words; "" where it does not."""
    expected = {f"size_of_{struct.__name__}": ctypes.sizeof(struct) for struct in _SHARED} | {
        "abi_version": ABI_VERSION
    }
    for name, value in expected.items():
        try:
            found = ctypes.c_int64.in_dll(library, name).value
        except ValueError:
            return f"it does not export {name}"
        if found != value:
            return f"its {name} is {found}, and Python's {value}"
    return ""


_SHARED = (Shape, Layer, PictureSizes, AdamWeight, MuonMatrix)
