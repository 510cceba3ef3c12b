"""Known data sets: their original files with checksums, their licence, and where to get them. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class RemoteFile:
    """An original file.

    Attributes:
        name: file name.
        checksum: ``md5:...`` or ``sha256:...``.
        url: address; "" if the file cannot be fetched without a browser.
        size: number of bytes; 0 if unknown.
        moved: whether the checksum was published for another address, since closed. Then a file with another checksum
            is kept with a warning.
    """

    name: str
    checksum: str
    url: str = ""
    size: int = 0
    moved: bool = False


@dataclass(frozen=True)
class KnownData:
    """A data set that is read from its original files.

    Attributes:
        title: name in the literature.
        images: number and size of the images.
        licence: terms of use, in a few words.
        page: address of the publisher's page.
        files: files to fetch.
    """

    title: str
    images: str
    licence: str
    page: str
    files: tuple[RemoteFile, ...] = ()


_MPI3D = "https://huggingface.co/datasets/waleedgondal/mpi3d/resolve/main"
_NORB = "https://cs.nyu.edu/~ylclab/data/norb-v1.0-small"
_MNIST = "https://ossci-datasets.s3.amazonaws.com/mnist"
_FASHION = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com"
_IDX_FILES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)
_IDX_MD5 = {
    "mnist": (
        "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "d53e105ee54ea40749a09fcbcd1e9432",
        "9fb629c4189551a2d022fa330f9573f3",
        "ec29112dd5afa0611ce80d1b7f02629c",
    ),
    "fashionmnist": (
        "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "25c81989df183df01b3e8a0aad5dffbe",
        "bef4ecab320f06d8554ea6380940ec79",
        "bb300cfdad3c16e7a12a480ee83cd310",
    ),
}
_NORB_TRAINING = "smallnorb-5x46789x9x18x6x2x96x96-training"
_NORB_TESTING = "smallnorb-5x01235x9x18x6x2x96x96-testing"
_NORB_FILES = {
    f"{_NORB_TRAINING}-dat": (131_896_188, "5ffd6272a07d32695ee1082a26a41a93a37aab8c28da047f8c34ed348d214873"),
    f"{_NORB_TRAINING}-cat": (348, "2784e542c1922060691090952b6cd6278879a216c90f81476f0f00256d42cdaa"),
    f"{_NORB_TRAINING}-info": (71_052, "de7eb932ebe7a4ee16217fead60660d0eb3d23632c2f4d1c51f88c501c17bf32"),
    f"{_NORB_TESTING}-dat": (130_799_817, "cf7104eed3e51174d2f65b66d1e5878b9da233b886f161b0d88f4510ba2c7474"),
    f"{_NORB_TESTING}-cat": (347, "ecaf6d5bb8c3bc5eab9cf0258f6d2198dd474e016e374836fc097f2e5ff509ff"),
    f"{_NORB_TESTING}-info": (10_428, "16adf314226327ee006d1a44db8cfef52773c06c829951d5653a9f6f310248a2"),
}


def _norb(title: str, images: str) -> KnownData:
    files = tuple(
        RemoteFile(f"{name}.mat.gz", f"sha256:{sha256}", f"{_NORB}/{name}.mat.gz", size)
        for name, (size, sha256) in _NORB_FILES.items()
    )
    return KnownData(title, f"{images} of 96x96, grey", "research only, must not be sold", f"{_NORB}/", files)


def _idx(name: str, title: str, licence: str, page: str, address: str) -> KnownData:
    files = tuple(
        RemoteFile(file, f"md5:{md5}", f"{address}/{file}")
        for file, md5 in zip(_IDX_FILES, _IDX_MD5[name], strict=True)
    )
    return KnownData(title, "70,000 of 28x28, grey", licence, page, files)


def _mpi3d(title: str, file: str, md5: str = "", images: str = "1,036,800") -> KnownData:
    page = "https://github.com/rr-learning/disentanglement_dataset"
    files = (RemoteFile(file, f"md5:{md5}", f"{_MPI3D}/{file}", moved=True),) if md5 else ()
    return KnownData(f"MPI3D {title}", f"{images} of 64x64, colour", "CC BY 4.0", page, files)


CATALOGUE: dict[str, KnownData] = {
    "dsprites": KnownData(
        "dSprites",
        "737,280 of 64x64, black and white",
        "Apache 2.0",
        "https://github.com/google-deepmind/dsprites-dataset",
        (
            RemoteFile(
                "dsprites_ndarray_co1sh3sc6or40x32y32_64x64.hdf5",
                "sha256:729fa22e884c9c500e1f17415d580746b4c5894fbbb780a1319bbcfa39a745bb",
                "https://github.com/google-deepmind/dsprites-dataset/raw/master/"
                "dsprites_ndarray_co1sh3sc6or40x32y32_64x64.hdf5",
                28_024_106,
            ),
        ),
    ),
    "shapes3d": KnownData(
        "Shapes3D",
        "480,000 of 64x64, colour",
        "Apache 2.0",
        "https://github.com/google-deepmind/3d-shapes",
        (
            RemoteFile(
                "3dshapes.h5",
                "sha256:0a0f6ed98baff276a50f3a081a7434d788da63cb135a98189b2a5b5769be1785",
                "https://storage.googleapis.com/3d-shapes/3dshapes.h5",
                267_573_662,
            ),
        ),
    ),
    "mpi3d-toy": _mpi3d("toy", "mpi3d_toy.npz", "55889cb7c7dfc655d6e0277beee88868"),
    "mpi3d-realistic": _mpi3d("realistic", "mpi3d_realistic.npz", "59a6225b88b635365f70c91b3e52f70f"),
    "mpi3d-real": _mpi3d("real", "mpi3d_real.npz", "0f33f609918fb5c97996692f91129802"),
    "mpi3d-complex": _mpi3d("complex", "real3d_complicated_shapes_ordered.npz", images="460,800"),
    "mpi3d-toy-first": _mpi3d(
        "toy, first release", "sim_toy_64x_ordered_without_heldout_factors.npz", images="460,800"
    ),
    "cars3d": KnownData(
        "Cars3D",
        "17,568 of 128x128, colour",
        "not stated",
        "https://papers.nips.cc/paper/5845-deep-visual-analogy-making",
        (
            RemoteFile(
                "nips2015-analogy-data.tar.gz",
                "md5:4e866a7919c1beedf53964e6f7a23686",
                "http://www.scottreed.info/files/nips2015-analogy-data.tar.gz",
            ),
        ),
    ),
    "smallnorb": _norb("SmallNORB", "48,600"),
    "smallnorb-stereo": _norb("SmallNORB with both cameras", "97,200"),
    "falcor3d": KnownData(
        "Falcor3D",
        "233,280 of 128x128 or 1024x1024, colour",
        "CC BY 4.0",
        "https://github.com/NVlabs/High-res-disentanglement-datasets",
    ),
    "isaac3d": KnownData(
        "Isaac3D",
        "737,280 of 128x128 or 512x512, colour",
        "CC BY 4.0",
        "https://github.com/NVlabs/High-res-disentanglement-datasets",
    ),
    "3dident": KnownData("3DIdent", "250,000 of 224x224, colour", "see the page", "https://zenodo.org/records/4502485"),
    "celeba": KnownData(
        "CelebA",
        "202,599 of 178x218, colour",
        "non-commercial research only",
        "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html",
        (
            RemoteFile("img_align_celeba.zip", "md5:00d2c5bc6d35e252742224ab0c1e8fcb"),
            RemoteFile("list_attr_celeba.txt", "md5:75e246fa4810816ffd6ee81facbd244c"),
        ),
    ),
    "mnist": _idx("mnist", "MNIST", "CC BY-SA 3.0", "http://yann.lecun.com/exdb/mnist/", _MNIST),
    "fashionmnist": _idx(
        "fashionmnist", "FashionMNIST", "MIT", "https://github.com/zalandoresearch/fashion-mnist", _FASHION
    ),
}
"""Known data sets by name."""


def verdict(found: dict[str, str], file_name: str, name: str = "") -> str:
    """Compare the checksums of a file with those of the known original files.

    Args:
        found: its MD5 and SHA-256.
        file_name: its name.
        name: the data set that it should belong to; if "", any.

    Example:
        >>> verdict({"md5": "0", "sha256": "1"}, "3dshapes.h5")
        'differs from the original 3dshapes.h5 of Shapes3D: sha256 is 1 instead of 0a0f6ed9...'
    """
    named = ""
    for known in [CATALOGUE[name]] if name in CATALOGUE else CATALOGUE.values():
        for file in known.files:
            kind, _, expected = file.checksum.partition(":")
            if found[kind] == expected:
                return f"the original {file.name} of {known.title} ({kind})"
            if file.name == file_name and not file_name.startswith(("train-", "t10k-")):
                named = named or (
                    f"differs from the original {file.name} of {known.title}: {kind} is {found[kind][:8]} instead of "
                    f"{expected[:8]}..."
                )
    return named or "not a known original file"
