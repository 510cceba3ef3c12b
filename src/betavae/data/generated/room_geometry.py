"""Draws the 480 views of `rooms` as weights of colours: every shape, scale and camera angle, without its hues.

The room is in metres, z up. Two walls meet in a corner behind the object, which stands on the floor at the origin. The
camera moves around the object. Rays are intersected with the surfaces in closed form, 3 x 3 per pixel.

Each pixel of a view is a weighted sum of the colour of the floor, the colour of the wall, the colour of the object, and
white. So one view serves all hues. Weights are bytes, and their sum is at most 255.

Only sums, products, quotients and square roots of single numbers are used, which IEEE 754 rounds in the same way on
every machine, and angles are rounded. So the images are the same everywhere.
"""

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Vector = tuple[Array | float, Array | float, Array | float]

SIDE = 64
"""Pixels of a row and of a column."""
SHAPES = ("cube", "cylinder", "sphere", "capsule")
SCALES = tuple(round(0.75 + 0.5 * index / 7, 6) for index in range(8))
ORIENTATIONS = tuple(round(-30 + 60 * index / 14, 6) for index in range(15))
"""Angles of the camera around the object, in degrees."""

_SUBPIXELS = 3
_WALL = 2.3
_DISTANCE, _HEIGHT, _TARGET, _ZOOM = 4.6, 2.15, 0.56, 0.335
"""Horizontal distance, height and aim of the camera, and half the width of its image at distance 1."""
_LIGHT = (-0.95, -0.12, 1.0)
"""Direction to the lamp, which is above and to the left of the camera."""
_SHADOW_CELLS, _SHADOW_REACH = 72, 2.1
_LAMP, _SKY = 20, 32
"""Numbers of points that stand for the lamp and for the sky."""
_LEAK = 0.22
"""Fraction of the light that reaches every place, also below an object."""
"""The shadow on the floor is computed on a square grid with this half width."""


class Hits(NamedTuple):
    """Where rays enter a solid: distances (infinite for a miss), and outward normals."""

    distance: Array
    normal: Vector


@lru_cache
def draw_views() -> NDArray[np.uint8]:
    """Weights (scale 8 * shape 4 * orientation 15, 4, 4096) of floor, wall, object and white; read-only.

    The scale changes slowest, then the shape, then the orientation, as in the factor table of `rooms`. Drawing them
    takes one or two seconds; later calls return the same array.
    """
    views = np.empty((len(SCALES), len(SHAPES), len(ORIENTATIONS), 4, SIDE, SIDE), np.uint8)
    rooms = [_empty_room(math.radians(45 + degrees)) for degrees in ORIENTATIONS]
    for scale_index, scale in enumerate(SCALES):
        for shape_index, shape in enumerate(SHAPES):
            solid = _Solid(shape, scale)
            shadow = _floor_light(solid)
            for view, room in zip(views[scale_index, shape_index], rooms, strict=True):
                view[:] = _view(room, solid, shadow)
    views.flags.writeable = False
    return views.reshape(-1, 4, SIDE * SIDE)


# ---------------------------------------------------------------------------------------------------------------------
# Solids
# ---------------------------------------------------------------------------------------------------------------------


class _Solid:
    """A solid that stands on the floor at the origin."""

    def __init__(self, shape: str, scale: float) -> None:
        self._enter, self.height, self.radius = {
            "cube": (_cube, 0.86, 0.75),
            "cylinder": (_cylinder, 0.94, 0.68),
            "sphere": (_sphere, 1.04, 0.53),
            "capsule": (_capsule, 1.22, 0.63),
        }[shape]
        self.height, self.radius, self.scale = self.height * scale, self.radius * scale, scale

    def enter(self, origin: Vector, direction: Vector) -> Hits:
        """Intersect rays with the solid. A ray that starts inside enters at once."""
        return self._enter(origin, direction, self.scale)


def _cube(origin: Vector, direction: Vector, scale: float) -> Hits:
    side = 0.86 * scale
    x = _slab(origin[0], direction[0], -side / 2, side / 2)
    y = _slab(origin[1], direction[1], -side / 2, side / 2)
    z = _slab(origin[2], direction[2], 0.0, side)
    near = np.maximum(np.maximum(x[0], y[0]), z[0])
    far = np.minimum(np.minimum(x[1], y[1]), z[1])
    on_x, on_y = near == x[0], near == y[0]
    normal = (
        np.where(on_x, -np.sign(direction[0]), 0.0),
        np.where(on_y & ~on_x, -np.sign(direction[1]), 0.0),
        np.where(on_x | on_y, 0.0, -np.sign(direction[2])),
    )
    return Hits(_entry(near, far), normal)


def _cylinder(origin: Vector, direction: Vector, scale: float) -> Hits:
    radius = 0.47 * scale
    round_side = _quadratic(
        direction[0] * direction[0] + direction[1] * direction[1],
        origin[0] * direction[0] + origin[1] * direction[1],
        origin[0] * origin[0] + origin[1] * origin[1] - radius * radius,
    )
    z = _slab(origin[2], direction[2], 0.0, 0.94 * scale)
    near, far = np.maximum(round_side[0], z[0]), np.minimum(round_side[1], z[1])
    on_cap = near == z[0]
    normal = (
        np.where(on_cap, 0.0, (origin[0] + near * direction[0]) / radius),
        np.where(on_cap, 0.0, (origin[1] + near * direction[1]) / radius),
        np.where(on_cap, -np.sign(direction[2]), 0.0),
    )
    return Hits(_entry(near, far), normal)


def _sphere(origin: Vector, direction: Vector, scale: float) -> Hits:
    return _ball(origin, direction, 0.52 * scale, 0.52 * scale)


def _capsule(origin: Vector, direction: Vector, scale: float) -> Hits:
    """A ball at each end of an open tube: the first of the three that a ray enters."""
    radius, height = 0.36 * scale, 1.22 * scale
    tube = _quadratic(
        direction[0] * direction[0] + direction[1] * direction[1],
        origin[0] * direction[0] + origin[1] * direction[1],
        origin[0] * origin[0] + origin[1] * origin[1] - radius * radius,
    )
    z = _slab(origin[2], direction[2], radius, height - radius)
    near = tube[0]
    first = Hits(
        _entry(np.maximum(near, z[0]), np.minimum(tube[1], z[1])),
        ((origin[0] + near * direction[0]) / radius, (origin[1] + near * direction[1]) / radius, 0.0 * near),
    )
    for centre in (radius, height - radius):
        ball = _ball(origin, direction, radius, centre)
        closer = ball.distance <= first.distance
        x, y, z_normal = (np.where(closer, b, a) for a, b in zip(first.normal, ball.normal, strict=True))
        first = Hits(np.minimum(ball.distance, first.distance), (x, y, z_normal))
    return first


def _ball(origin: Vector, direction: Vector, radius: float, centre: float) -> Hits:
    """A ball around (0, 0, centre)."""
    z = origin[2] - centre
    near, far = _quadratic(
        direction[0] * direction[0] + direction[1] * direction[1] + direction[2] * direction[2],
        origin[0] * direction[0] + origin[1] * direction[1] + z * direction[2],
        origin[0] * origin[0] + origin[1] * origin[1] + z * z - radius * radius,
    )
    normal = (
        (origin[0] + near * direction[0]) / radius,
        (origin[1] + near * direction[1]) / radius,
        (z + near * direction[2]) / radius,
    )
    return Hits(_entry(near, far), normal)


def _slab(origin: Array | float, direction: Array | float, low: float, high: float) -> tuple[Array, Array]:
    """Distances at which rays enter and leave the space between two planes."""
    one, other = (low - origin) / direction, (high - origin) / direction
    return np.minimum(one, other), np.maximum(one, other)


def _quadratic(a: Array | float, half_b: Array | float, c: Array | float) -> tuple[Array, Array]:
    """The two roots of a t² + 2 half_b t + c, not a number where there are none."""
    root = np.sqrt(half_b * half_b - a * c)
    return (-half_b - root) / a, (root - half_b) / a


def _entry(near: Array, far: Array) -> Array:
    return np.where((near < far) & (far > 1e-6), near, np.inf)


# ---------------------------------------------------------------------------------------------------------------------
# Light
# ---------------------------------------------------------------------------------------------------------------------


class _Room(NamedTuple):
    """The room without an object, seen by the camera; rays are 3 x 3 per pixel, (192, 192)."""

    eye: tuple[float, float, float]
    rays: tuple[Array, Array, Array]
    floor: Array
    """Weight of the colour of the floor; 0 where a ray meets a wall."""
    wall: Array
    """Weight of the colour of the walls; 0 where a ray meets the floor."""
    floor_at: tuple[Array, Array]
    """Where the ray in the middle of each pixel meets the plane of the floor, (64, 64)."""


def _empty_room(angle: float) -> _Room:
    """Look into the room in a horizontal direction, an angle in radians from the x axis."""
    cos, sin = round(math.cos(angle), 12), round(math.sin(angle), 12)
    eye = (-_DISTANCE * cos, -_DISTANCE * sin, _HEIGHT)
    rays = _rays(cos, sin, (np.arange(SIDE * _SUBPIXELS) + 0.5) / (SIDE * _SUBPIXELS))
    with np.errstate(divide="ignore", invalid="ignore"):
        to_floor = _positive(-eye[2] / rays[2])
        to_x, to_y = _positive((_WALL - eye[0]) / rays[0]), _positive((_WALL - eye[1]) / rays[1])
    to_wall = np.minimum(to_x, to_y)
    is_floor = to_floor < to_wall
    distance = np.minimum(to_floor, to_wall)
    x, y, z = (start + distance * ray for start, ray in zip(eye, rays, strict=True))
    centre = _rays(cos, sin, (np.arange(SIDE) + 0.5) / SIDE)
    with np.errstate(divide="ignore"):
        down = _positive(-eye[2] / centre[2])
    down = np.where(np.isfinite(down), down, 1e6)
    return _Room(
        eye,
        rays,
        np.where(is_floor, np.sqrt(_open_floor(x, y)), 0.0),
        np.where(is_floor, 0.0, np.sqrt(np.where(to_x < to_y, _open_wall(y, z, 0.78), _open_wall(x, z, 0.56)))),
        (eye[0] + down * centre[0], eye[1] + down * centre[1]),
    )


def _rays(cos: float, sin: float, places: Array) -> tuple[Array, Array, Array]:
    """Directions of unit length through places of the image, which go from 0 to 1 to the right and down."""
    right, up = (2 * places[None, :] - 1) * _ZOOM, (1 - 2 * places[:, None]) * _ZOOM
    drop = _HEIGHT - _TARGET
    length = math.sqrt(_DISTANCE * _DISTANCE + drop * drop)
    forward, down = _DISTANCE / length, drop / length
    level = forward + up * down
    x, y, z = level * cos + right * sin, level * sin - right * cos, up * forward - down + 0 * right
    norm = np.sqrt(x * x + y * y + z * z)
    return x / norm, y / norm, z / norm


def _positive(distance: Array | float) -> Array:
    return np.where(distance > 0, distance, np.inf)


def _open_floor(x: Array, y: Array) -> Array:
    """Light of the floor: brightest around the object, darker along the walls."""
    pool = 1 / (1 + 0.045 * (x * x + y * y))
    return 0.95 * pool * _corner(_WALL - x) * _corner(_WALL - y)


def _open_wall(along: Array, z: Array, brightness: float) -> Array:
    """Light of a wall: brighter to the top, darker along the floor and in the corner."""
    rise = z / (z + 1.1)
    return brightness * (0.80 + 0.38 * rise) * _corner(z) * _corner(_WALL - along)


def _corner(distance: Array) -> Array:
    """Darkening at a distance from an edge where two planes meet, from 0.6 to 1."""
    distance = np.maximum(distance, 0.0)
    return 0.6 + 0.4 * np.sqrt(distance / (distance + 0.35))


def _floor_light(solid: _Solid) -> Array:
    """The fraction of light that an object lets through to the floor, on a grid (cells, cells) of x and y.

    Part of the light comes from a wide lamp and casts a soft shadow. The rest comes from all of the sky and makes the
    floor dark where the object touches it.
    """
    grid = (2 * (np.arange(_SHADOW_CELLS) + 0.5) / _SHADOW_CELLS - 1) * _SHADOW_REACH
    x, y = np.broadcast_arrays(grid[:, None], grid[None, :])
    light = np.full(x.shape, _LEAK)
    with np.errstate(divide="ignore", invalid="ignore"):
        for weight, direction in _lights():
            blocked = solid.enter((x, y, np.full(x.shape, 1e-4)), direction).distance < np.inf
            light += np.where(blocked, 0.0, (1 - _LEAK) * weight)
    return light


def _lights() -> list[tuple[float, Vector]]:
    """Weights and directions of point lights: half of the light from the lamp, the rest from the sky."""
    lights: list[tuple[float, Vector]] = []
    golden = math.pi * (3 - math.sqrt(5))
    for index in range(_LAMP):
        radius, angle = 0.22 * math.sqrt((index + 0.5) / _LAMP), golden * index
        x, y = round(radius * math.cos(angle), 9), round(radius * math.sin(angle), 9)
        lights.append((0.5 / _LAMP, (_LIGHT[0] + x, _LIGHT[1] + y, _LIGHT[2])))
    for index in range(_SKY):
        square, angle = (index + 0.5) / _SKY, golden * index
        x, y = math.sqrt(square) * math.cos(angle), math.sqrt(square) * math.sin(angle)
        lights.append((0.5 / _SKY, (round(x, 9), round(y, 9), round(math.sqrt(1 - square), 9))))
    return lights


def _shade(solid: _Solid, room: _Room, rays: Vector) -> tuple[Array, Array]:
    """Light of an object's surface and of its highlight along rays, both 0 where the object is missed."""
    with np.errstate(divide="ignore", invalid="ignore"):
        hits = solid.enter(room.eye, rays)
    seen = np.isfinite(hits.distance)
    distance = np.where(seen, hits.distance, 0.0)
    normal = tuple(np.where(seen, component, 0.0) for component in hits.normal)
    z = room.eye[2] + distance * rays[2]
    size = math.sqrt(sum(part * part for part in _LIGHT))
    lamp = [part / size for part in _LIGHT]
    towards = normal[0] * lamp[0] + normal[1] * lamp[1] + normal[2] * lamp[2]
    direct = np.maximum(towards + 0.2, 0.0) / 1.2
    near_floor = np.maximum(1 - z / (0.55 * solid.height), 0.0)
    ambient = (0.62 + 0.38 * normal[2]) * (1 - 0.45 * near_floor * near_floor)
    light = 0.68 * direct + 0.34 * ambient
    half = [part - ray for part, ray in zip(lamp, rays, strict=True)]
    length = np.sqrt(half[0] * half[0] + half[1] * half[1] + half[2] * half[2])
    gloss = np.maximum(normal[0] * half[0] + normal[1] * half[1] + normal[2] * half[2], 0.0) / length
    for _ in range(5):  # the 32nd power
        gloss = gloss * gloss
    return np.where(seen, light, 0.0), np.where(seen, 0.55 * gloss, 0.0)


# ---------------------------------------------------------------------------------------------------------------------
# Views
# ---------------------------------------------------------------------------------------------------------------------


def _view(room: _Room, solid: _Solid, shadow: Array) -> NDArray[np.uint8]:
    """Weights (4, 64, 64) of floor, wall, object and white."""
    planes = np.zeros((4, SIDE, SIDE))
    planes[0], planes[1] = _mean(room.floor), _mean(room.wall)
    pixels, window = _window(solid)
    x, y, z = room.rays
    light, gloss = _shade(solid, room, (x[window], y[window], z[window]))
    tone = np.minimum(np.sqrt(light), 1.0)
    for plane, rays in zip(
        planes,
        (
            np.where(light > 0, 0.0, room.floor[window]),
            np.where(light > 0, 0.0, room.wall[window]),
            tone * (1 - gloss),
            gloss,
        ),
        strict=True,
    ):
        plane[pixels] = _mean(rays)
    planes[0] *= np.sqrt(_look_up(shadow, *room.floor_at))
    return (255 * planes).astype(np.uint8)  # rounded down, so that the sum is at most 255


def _window(solid: _Solid) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """The part of the image that contains the solid, in pixels and in rays. It is the same from all sides."""
    drop = _HEIGHT - _TARGET
    length = math.sqrt(_DISTANCE * _DISTANCE + drop * drop)
    forward, down = _DISTANCE / length, drop / length
    depth = _DISTANCE * forward + (_HEIGHT - solid.height / 2) * down
    middle = (_DISTANCE * down - (_HEIGHT - solid.height / 2) * forward) / depth
    reach = solid.radius / (depth - solid.radius)
    pixels = [
        (max(math.floor(SIDE * (1 + low / _ZOOM) / 2), 0), min(math.ceil(SIDE * (1 + high / _ZOOM) / 2), SIDE))
        for low, high in ((-middle - reach, -middle + reach), (-reach, reach))
    ]
    rows, columns = (slice(first, last) for first, last in pixels)
    ray_rows, ray_columns = (slice(first * _SUBPIXELS, last * _SUBPIXELS) for first, last in pixels)
    return (rows, columns), (ray_rows, ray_columns)


def _mean(rays: Array) -> Array:
    """Mean of the 3 x 3 rays of each pixel."""
    total = np.zeros((len(rays) // _SUBPIXELS, rays.shape[1] // _SUBPIXELS))
    for row in range(_SUBPIXELS):
        for column in range(_SUBPIXELS):
            total += rays[row::_SUBPIXELS, column::_SUBPIXELS]
    return total / _SUBPIXELS**2


def _look_up(grid: Array, x: Array, y: Array) -> Array:
    """Values of the shadow at places of the floor, interpolated; 1 outside the grid."""
    cells = len(grid)
    i, j = ((place / _SHADOW_REACH + 1) / 2 * cells - 0.5 for place in (x, y))
    inside = (i > 0) & (i < cells - 1) & (j > 0) & (j < cells - 1)
    i, j = np.where(inside, i, 0.0), np.where(inside, j, 0.0)
    low_i, low_j = np.floor(i).astype(np.intp), np.floor(j).astype(np.intp)
    i, j = i - low_i, j - low_j
    high_i, high_j = np.minimum(low_i + 1, cells - 1), np.minimum(low_j + 1, cells - 1)
    near = grid[low_i, low_j] * (1 - j) + grid[low_i, high_j] * j
    far = grid[high_i, low_j] * (1 - j) + grid[high_i, high_j] * j
    return np.where(inside, near * (1 - i) + far * i, 1.0)
