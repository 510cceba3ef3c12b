"""Networks whose layers run several at a time in C, with the parameters and the `state_dict` of the plain ones."""

from collections.abc import Iterable

from torch import Tensor, nn

from betavae.kernels import affine, build, likelihood
from betavae.kernels.chain import bernoulli_error_of_chain, run_chain
from betavae.kernels.matching import silent
from betavae.kernels.rounding import rounded
from betavae.networks.layers import AffinePicture, Residual


def fuse(model: nn.Module) -> None:
    """Have all `nn.Sequential` and `AffinePicture` of a model run in C where that can be.

    They stay the same objects, with the same modules, parameters and hooks, under the same names: only their class
    changes. Layers that there is no code for, and modules with hooks, run as before.

    Raises:
        ValueError: BETAVAE_KERNELS has an unknown value.
        RuntimeError: BETAVAE_KERNELS is `require`, and there is no compiled code.

    Example:
        >>> network = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
        >>> before = list(network.state_dict())
        >>> fuse(network)
        >>> type(network).__name__, list(network.state_dict()) == before
        ('FusedSequential', True)
    """
    build.check()
    for module in model.modules():
        if (fused := _FUSED.get(type(module))) is not None:
            module.__class__ = fused


def unfuse(model: nn.Module) -> None:
    """Have a model run in plain PyTorch again, in place: the inverse of `fuse`. Exporters of networks need it.

    Example:
        >>> network = nn.Sequential(nn.Linear(2, 3))
        >>> fuse(network)
        >>> unfuse(network)
        >>> type(network).__name__
        'Sequential'
    """
    plain = {fused: base for base, fused in _FUSED.items()}
    for module in model.modules():
        if (base := plain.get(type(module))) is not None:
            module.__class__ = base


class FusedSequential(nn.Sequential):
    """An `nn.Sequential` that runs several layers at a time in C."""

    def forward(self, features: Tensor) -> Tensor:
        """What `nn.Sequential` gives, to rounding; exactly that where the sequence has hooks."""
        if silent(self):
            return run_layers(_flat(self), features)
        result: Tensor = super().forward(features)  # type: ignore[no-untyped-call]
        return result

    def bernoulli_error(self, features: Tensor, images: Tensor) -> Tensor:
        """Bernoulli errors of images given this decoder's logits, (B,) float32, in nats; see `bernoulli_error`.

        The last layers and the likelihood run as one where that can be: logits are not written to memory then.
        """
        if silent(self):
            return run_layers(_flat(self), features, images)
        return likelihood.bernoulli_error(self(features).float(), images)


class FusedAffinePicture(AffinePicture):
    """An `AffinePicture` that places pictures in C."""

    def forward(self, features: Tensor) -> Tensor:
        """Logits (or means) of the pixels, (B, C, H, W) float32."""
        maps = self.pixel_maps(run_layers([self.map], features))
        pictures = self.picture(features).float() + self.blob
        return affine.place_pictures(pictures, maps, self.background, self.height, self.width)


_FUSED: dict[type[nn.Module], type[nn.Module]] = {nn.Sequential: FusedSequential, AffinePicture: FusedAffinePicture}


def run_layers(layers: list[nn.Module], features: Tensor, images: Tensor | None = None) -> Tensor:
    """Run layers one after another, in C where there is code for them.

    Args:
        layers: of any kind.
        features: input of the first one.
        images: if the outputs are logits of pixels, and only the Bernoulli errors of images are wanted: these images.

    Returns:
        The output of the last layer; or the errors, (B,), in nats.
    """
    with rounded(layers, features):
        index = 0
        while index < len(layers):
            if images is not None:
                errors = bernoulli_error_of_chain(layers, features, images, index)
                if errors is not None:
                    return errors
            features, count = run_chain(layers, features, index)
            if not count:
                features = _run(layers[index], features)
            index += count or 1
    return features if images is None else likelihood.bernoulli_error(features.float(), images)


def _run(layer: nn.Module, features: Tensor) -> Tensor:
    if type(layer) is Residual and silent(layer):  # there may be code for a part of it
        return features + run_layers(list(layer), features)
    result: Tensor = layer(features)
    return result


def _flat(sequence: Iterable[nn.Module]) -> list[nn.Module]:
    """The layers of a sequence, and those of the sequences in it that have no hooks."""
    layers: list[nn.Module] = []
    for layer in sequence:
        inner = type(layer) in (nn.Sequential, FusedSequential) and silent(layer)
        layers += _flat(layer) if inner else [layer]  # type: ignore[arg-type]
    return layers
