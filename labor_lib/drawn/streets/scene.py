"""A whole scene: where objects are placed, what the camera adds, and `draw_scene`."""

from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from labor_lib.drawn.streets import objects
from labor_lib.drawn.streets.canvas import Canvas
from labor_lib.drawn.streets.look import (
    DEFAULT_GAP,
    DEFAULT_SIZE,
    FAR,
    IDS,
    OVERSAMPLING,
    ROUGHNESS,
    TEXTURE_SCALES,
)
from labor_lib.drawn.streets.objects import Street

Task = tuple  # distance in metres, what draws there, and its arguments after the canvas


def place_houses(canvas: Canvas, street: Street, side: int) -> Iterator[Task]:
    """Houses and gardens behind one pavement, and a fence before them."""
    rng, style = canvas.rng, canvas.style
    x, z = side * street.plot(side), canvas.between((1.2, 3.0))
    while z < 75:
        length = rng.uniform(5, 15)
        # Long things count as far as their far end: what stands beside them hides them.
        if canvas.chance(style.building_chance):
            yield z + length, objects.draw_building, side, x, z, length
        elif canvas.chance(0.7):
            at, radius = z + length / 2, rng.uniform(1.3, 2.8)
            yield at, objects.draw_foliage, x + side * 1.5, radius * 0.5, at, radius
        z += length * rng.uniform(1.0, 1.2)
    if canvas.chance(style.fence_chance):
        near, length = rng.uniform(2, 10), rng.uniform(8, 25)
        at = side * (street.road + street.pavement[side] + 0.3)
        yield near + length, objects.draw_fence, at, near, length


def place_kerbside(canvas: Canvas, street: Street, side: int) -> Iterator[Task]:
    """What stands on one pavement: poles, trees, people, bicycles; and parked cars."""
    rng, style = canvas.rng, canvas.style
    kerb, walk = street.road, street.pavement[side]
    posts = (objects.draw_lamp, objects.draw_sign, objects.draw_traffic_light)

    z = rng.uniform(4, 9)
    while z < 34:  # posts farther away would be thinner than a pixel
        draw = posts[rng.choice(3, p=(0.34, 0.36, 0.30))]
        if canvas.chance(0.8):
            yield z, draw, side * (kerb + 0.5), z
        z += canvas.between(style.pole_gap)
    z = rng.uniform(5, 10)
    while z < 50:
        if canvas.chance(style.tree_chance):
            x = kerb + walk + min(street.grass[side], 2) * rng.random() - 0.4
            yield z, objects.draw_tree, side * x, z
        z += rng.uniform(4, 11)
    for _ in range(rng.poisson(style.pedestrians)):
        x, z = kerb + rng.uniform(0.4, walk), rng.uniform(4.5, 20)
        yield z, objects.draw_person, side * x, z
    for _ in range(rng.poisson(style.bicycles)):
        x, z = kerb + rng.uniform(-0.9, 0.9), rng.uniform(4.5, 15)
        yield z, objects.draw_bicycle, side * x, z, canvas.chance(style.rider_chance)
    if canvas.chance(style.parked_chance):
        z = rng.uniform(4.5, 9)
        while z < 40:
            if canvas.chance(0.7):
                yield z, objects.draw_car, side * (kerb - 1.1), z, side < 0
            z += rng.uniform(5.5, 9)


def place_traffic(canvas: Canvas, street: Street) -> Iterator[Task]:
    """What moves on the road. Traffic keeps to the right, so cars on the left come towards us."""
    rng, style, road = canvas.rng, canvas.style, street.road
    for _ in range(rng.poisson(style.moving_cars)):
        side, z = rng.choice((-1, 1)), rng.uniform(6, 30)
        yield z, objects.draw_car, side * road * 0.42, z, side < 0
    if canvas.chance(style.crossing_chance):
        x, z = rng.uniform(-road, road), rng.uniform(8, 22)
        yield z, objects.draw_crossing_car, x, z
    if canvas.chance(style.bus_chance):
        x, z = rng.choice((-1, 1)) * road * 0.45, rng.uniform(7, 22)
        yield z, objects.draw_bus, x, z
    for _ in range(rng.poisson(style.jaywalkers)):
        x, z = rng.uniform(-road, road), rng.uniform(6, 16)
        yield z, objects.draw_person, x, z


@lru_cache(maxsize=4)
def _noise_bank(height: int, width: int) -> tuple[np.ndarray, ...]:
    """Speckles at each of TEXTURE_SCALES, larger than the image: crops of them look different."""
    rng = np.random.default_rng(0)
    rows, columns = int(height * 1.6), int(width * 1.4)
    bank = []
    for scale in TEXTURE_SCALES:
        step = max(1, round(scale * height / 224))
        coarse = rng.standard_normal((rows // step + 4, columns // step + 4), dtype=np.float32)
        # Only whole columns and rows of the coarse noise are enlarged.
        enlarged = Image.fromarray(coarse).resize(
            (coarse.shape[1] * step, coarse.shape[0] * step), Image.Resampling.BICUBIC
        )
        speckles = np.asarray(enlarged)[:rows, :columns]
        bank.append((speckles - speckles.mean()) / speckles.std())
    return tuple(bank)


def _texture(canvas: Canvas) -> np.ndarray:
    """A mix of random crops of the noise bank, weighted by the style; height x width."""
    height, width = canvas.height, canvas.width
    total = np.zeros((height, width), np.float32)
    for weight, speckles in zip(canvas.style.texture, _noise_bank(height, width), strict=True):
        row = canvas.rng.integers(speckles.shape[0] - height)
        column = canvas.rng.integers(speckles.shape[1] - width)
        if weight:
            total += np.float32(weight) * speckles[row : row + height, column : column + width]
    return total


def _cast_shadow(canvas: Canvas, street: Street) -> np.ndarray:
    """Where a house out of sight keeps the sun from the street: 0 (light) to 1 (shade)."""
    rng = canvas.rng
    start, lean = rng.uniform(-street.road - 2, street.road), rng.choice((-1, 1))
    far = rng.uniform(10, 60)
    corners = ((start, 1.0), (start + 30 * lean, 1.0), (start + 12 * lean, far), (start, 45.0))
    mask = Image.new("L", (canvas.width, canvas.height), 0)
    ImageDraw.Draw(mask).polygon([canvas.project(x, 0, z) for x, z in corners], fill=255)
    mask = mask.filter(ImageFilter.BoxBlur(2.5 * canvas.unit))
    return np.asarray(mask, np.float32) / 255


def camera_effects(canvas: Canvas, street: Street, haze_colour: np.ndarray) -> np.ndarray:
    """The finished image, height x width x 3 uint8: texture, shade, haze, light, lens, sensor."""
    rng, style = canvas.rng, canvas.style
    labels = np.asarray(canvas.labels)
    light = np.asarray(canvas.image, np.float32)
    height, width = labels.shape
    rows = np.arange(height, dtype=np.float32)[:, None]
    columns = np.arange(width, dtype=np.float32)[None, :]

    # The gain of every pixel: texture by class, shade on the ground, uneven light, vignette.
    roughness = np.ones(256, np.float32)
    roughness[list(IDS.values())] = [ROUGHNESS[name] for name in IDS]
    gain = 1 + roughness[labels] * _texture(canvas)
    ground = np.isin(labels, [IDS["road"], IDS["sidewalk"], IDS["terrain"]])
    shadowed, strength = canvas.chance(0.6), style.shadow * rng.uniform(0.5, 1.0)
    if shadowed and strength:
        gain *= 1 - strength * _cast_shadow(canvas, street) * ground
    across, down = columns / width * 2 - 1, rows / height * 2 - 1
    slope_x, slope_y = style.slope * rng.uniform(-1, 1, 2).astype(np.float32)
    gain *= 1 + slope_x * across + slope_y * down - style.vignette * (across**2 + down**2) / 2
    tint = 1 + style.tint * rng.uniform(-1, 1, 3) * (1, 0, 1)
    colour_gain = ((1 + style.exposure * rng.uniform(-1, 1)) * tint).astype(np.float32)

    density = canvas.between(style.haze)
    if density:
        # Distance: as painted for objects, from the camera's geometry for the ground.
        below = rows - canvas.horizon - canvas.roll * (columns - canvas.middle)
        flat = canvas.focal * canvas.camera_height / np.maximum(below, 1.0)
        distance = np.where(ground, np.minimum(flat, FAR), np.asarray(canvas.depth))
        clear = np.exp(-density * distance)
        clear[labels == IDS["sky"]] = 1.0
        light *= (gain * clear)[..., None]
        light += (1 - clear)[..., None] * haze_colour.astype(np.float32)
    else:
        light *= gain[..., None]
    light *= colour_gain

    picture = Image.fromarray(np.clip(light, 0, 255).astype(np.uint8))
    blur = canvas.between(style.blur) * OVERSAMPLING * canvas.unit
    if blur:
        picture = picture.filter(ImageFilter.GaussianBlur(blur))
    reduced = np.asarray(picture.reduce(OVERSAMPLING), np.float32)
    reduced += canvas.between(style.noise) * rng.standard_normal(reduced.shape, np.float32)
    return np.clip(reduced, 0, 255).astype(np.uint8)


def draw_scene(
    domain: str,
    seed: int | Sequence[int],
    size: tuple[int, int] = DEFAULT_SIZE,
    gap: float = DEFAULT_GAP,
) -> tuple[np.ndarray, np.ndarray]:
    """One scene of "game" or "camera": the image, height x width x 3, and its Cityscapes label ids,
    both uint8.

    `seed` is an int or ints, say (scene seed, scene number); the same one gives the same pixels.
    `gap` is how far the camera domain is from the game's, from 0 (the same) to 1; the game
    domain does not depend on it.
    """
    gap = {"game": 0.0, "camera": gap}[domain]
    canvas = Canvas(np.random.default_rng(seed), gap, size)
    haze_colour = objects.draw_sky(canvas)
    street = objects.draw_ground(canvas)
    objects.draw_skyline(canvas)
    tasks = [
        *(task for side in (-1, 1) for task in place_houses(canvas, street, side)),
        *(task for side in (-1, 1) for task in place_kerbside(canvas, street, side)),
        *place_traffic(canvas, street),
    ]
    for _, draw, *arguments in sorted(tasks, key=lambda task: -task[0]):  # far to near
        draw(canvas, *arguments)
    image = camera_effects(canvas, street, haze_colour)
    labels = np.asarray(canvas.labels)[::OVERSAMPLING, ::OVERSAMPLING].copy()
    return image, labels
