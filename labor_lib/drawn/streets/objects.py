"""What stands in a street, each painted by a function: places are in metres before the camera."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from PIL import Image

from labor_lib.drawn.streets.canvas import Canvas, shade
from labor_lib.drawn.streets.look import FAR, HAIR, SKIN, TYRE, Colour


@dataclass(frozen=True)
class Street:
    """Where the road, the pavements and the plots behind them lie; metres."""

    road: float  # half the road's width
    pavement: dict[int, float]  # widths by side, -1 (left) and 1 (right)
    grass: dict[int, float]  # widths of the terrain behind the pavements; 0 where there is none

    def plot(self, side: int) -> float:
        """Distance from the road's middle to the house fronts."""
        return self.road + self.pavement[side] + self.grass[side] + 0.3


def draw_sky(canvas: Canvas) -> np.ndarray:
    """Paint the sky; return the colour at its horizon, in which haze drowns far things."""
    chosen = canvas.rng.integers(len(canvas.palette["sky_top"]))
    top, low = canvas.palette["sky_top"][chosen], canvas.palette["sky_low"][chosen]
    rows = int(canvas.horizon) + round(30 * canvas.unit)
    share = np.linspace(0, 1, rows)[:, None]
    gradient = (top * (1 - share) + low * share).astype(np.uint8)
    canvas.image.paste(Image.fromarray(np.repeat(gradient[:, None], canvas.width, axis=1)), (0, 0))
    if canvas.chance(canvas.style.cloud_chance):
        for _ in range(canvas.rng.integers(2, 6)):
            draw_cloud(canvas, low)
    return low


def draw_cloud(canvas: Canvas, low: np.ndarray) -> None:
    # Clouds are white on blue, and just a little lighter than a grey sky.
    white = low + 0.85 * (255 - low)
    x, y = canvas.rng.uniform(0, canvas.width), canvas.rng.uniform(0, canvas.horizon * 0.7)
    for _ in range(6):
        radius = canvas.rng.uniform(8, 24) * canvas.unit
        dx, dy = canvas.rng.normal(0, (18 * canvas.unit, 3 * canvas.unit))
        tone = shade(tuple(white), canvas.rng.uniform(0.95, 1.0))
        canvas.ellipse((x + dx, y + dy), (radius, radius * 0.35), tone)


def draw_ground(canvas: Canvas) -> Street:
    """Paint terrain, pavements, road, kerbs and markings; return where they lie."""
    rng, style = canvas.rng, canvas.style
    road = canvas.between(style.road_half_width)
    pavement = {side: rng.uniform(1.8, 3.6) for side in (-1, 1)}
    grass = {
        side: rng.uniform(2, 7) if canvas.chance(style.grass_chance) else 0.0 for side in (-1, 1)
    }

    near = 0.8
    canvas.strip(-300, 300, near, FAR, canvas.colour("terrain"), "terrain")
    for side, width in pavement.items():
        colour = canvas.colour("sidewalk", 5)
        edge = road + width if grass[side] else 90  # no lawn: paved up to the houses
        canvas.strip(side * road, side * edge, near, FAR, colour, "sidewalk")
        # Joints between the paving slabs.
        z = canvas.between((1.5, 3))
        while z < 22:
            canvas.strip(side * road, side * (road + width), z, z + 0.07, shade(colour, 0.88))
            z *= 1.22
        canvas.strip(side * road, side * (road + 0.2), near, FAR, canvas.colour("kerb", 5))

    surface = canvas.colour("road", 5)
    canvas.strip(-road, road, near, FAR, surface, "road")
    for _ in range(rng.poisson(style.patches)):
        x, z = rng.uniform(-road, road * 0.6), rng.uniform(2, 20)
        tone = shade(surface, rng.uniform(0.86, 1.12))  # brightness only: asphalt has no hue
        canvas.strip(x, min(road, x + rng.uniform(0.8, 3)), z, z + rng.uniform(1, 6), tone)
    for side in (-1, 1):  # gutters
        canvas.strip(side * road, side * (road - 0.22), near, FAR, shade(surface, 0.82))
    draw_markings(canvas, road)
    return Street(road, pavement, grass)


def draw_markings(canvas: Canvas, road: float) -> None:
    """Centre line, edge lines and sometimes a zebra crossing. All are road."""
    paint = canvas.colour("line", 5)
    z = canvas.between((1, 4))
    while z < 60:
        if canvas.chance(canvas.style.dash_chance):
            canvas.strip(-0.08, 0.08, z, z + 2.5, paint)
        z += 5.5
    if canvas.chance(0.3):
        for side in (-1, 1):
            canvas.strip(side * (road - 0.55), side * (road - 0.42), 0.8, FAR, paint)
    if canvas.chance(0.3):
        z = canvas.between((5, 14))
        for x in np.arange(-road + 0.4, road - 0.6, 1.0):
            canvas.strip(x, x + 0.5, z, z + 2.6, paint)


def draw_skyline(canvas: Canvas) -> None:
    """Far houses and trees that close the street's end."""
    rng, unit = canvas.rng, canvas.unit
    column = -20.0 * unit
    while column < canvas.width + 20 * unit:
        width, height = rng.uniform(15, 60) * unit, rng.uniform(5, 28) * unit
        base = canvas.horizon + canvas.roll * (column - canvas.middle) + 4 * unit
        if canvas.chance(0.5):
            left, right, top = column, column + width, base - height
            corners = [(left, base), (right, base), (right, top), (left, top)]
            canvas.polygon(corners, canvas.colour("building"), "building", 90.0)
        else:
            for _ in range(5):
                centre = (column + rng.uniform(0, width), base - height * 0.25)
                radii = (width * 0.25, height * rng.uniform(0.35, 0.5))
                canvas.ellipse(centre, radii, canvas.colour("vegetation"), "vegetation", 90.0)
        column += width * 0.8


def draw_building(canvas: Canvas, side: int, x: float, z: float, length: float) -> None:
    """A house whose front stands along the street at x, from z to z + length."""
    style, rng = canvas.style, canvas.rng
    height = canvas.between(style.building_height)
    front, glass = canvas.colour("building"), canvas.colour("window", 6)
    frame, roof = canvas.colour("frame", 4), canvas.colour("roof", 6)
    end = shade(front, canvas.between((0.72, 0.88)))  # the gable wall lies in shade
    gable = canvas.chance(style.gable_chance)
    far = z + length

    if gable:  # the roof's slope towards the street, and the gable's triangle
        ridge_x, ridge_y = x + side * 3.5, height + 2.4
        slope = ((x, height, z), (x, height, far), (ridge_x, ridge_y, far), (ridge_x, ridge_y, z))
        canvas.surface(slope, z + length / 2, roof, "building")
        canvas.shape(((x, height), (x + side * 7, height), (ridge_x, ridge_y)), z, end, "building")
    canvas.board(x, x + side * (7 if gable else 25), 0, height, z, end, "building")

    floors, columns = max(1, int(height / 3)), max(1, round(length / 2.7))
    edges = np.linspace(z, far, columns + 1)
    door = rng.integers(columns)
    shop = canvas.chance(0.35)
    margin = (1 - style.window_width) / 2
    for column in reversed(range(columns)):  # far to near, each with its own distance
        near_z, far_z = edges[column], edges[column + 1]
        canvas.wall(x, 0, height, near_z, far_z, front, "building")
        if canvas.scale(near_z) * 0.8 < 1.5 * canvas.unit:
            continue  # too far to see windows
        step = far_z - near_z
        za, zb = near_z + margin * step, far_z - margin * step
        rim = 0.06 * step
        for floor in range(floors):
            bottom = 3 * floor + 1.0
            if floor == 0 and column == door:
                canvas.wall(x, 0, 2.3, za - rim, zb + rim, frame)
                canvas.wall(x, 0, 2.15, za, zb, canvas.colour("door", 5))
                continue
            if floor == 0 and shop:
                bottom, top = 0.5, 2.5
                za_, zb_ = near_z + 0.08 * step, far_z - 0.08 * step
            else:
                top, za_, zb_ = bottom + 1.6, za, zb
            if top > height - 0.2 or canvas.chance(0.05):
                continue
            canvas.wall(x, bottom - 0.12, top + 0.12, za_ - rim, zb_ + rim, frame)
            pane = shade(glass, rng.uniform(0.8, 1.2))
            canvas.wall(x, bottom, top, za_, zb_, pane)
            if near_z < 14:  # the bar in the middle
                middle = (za_ + zb_) / 2
                canvas.wall(x, bottom, top, middle - 0.04, middle + 0.04, frame)
    canvas.wall(x, 0, 0.35, z, far, shade(front, 0.7))  # plinth
    canvas.wall(x, height - 0.3, height, z, far, roof if gable else shade(front, 1.15))  # cornice
    if shop:
        canvas.wall(x, 2.6, 3.0, z, far, canvas.colour("door", 12))  # the shop's fascia


def draw_fence(canvas: Canvas, x: float, z: float, length: float) -> None:
    """A fence along the street: boards, or railings that one sees through."""
    colour = canvas.colour("fence", 6)
    height = canvas.between(canvas.style.fence_height)
    solid = canvas.chance(canvas.style.fence_solid)
    edges = np.linspace(z, z + length, 1 + max(2, round(length / 1.6)))
    for near_z, far_z in reversed(list(pairwise(edges))):
        panel = shade(colour, canvas.rng.uniform(0.88, 1.0)) if solid else None
        canvas.wall(x, 0, height, near_z, far_z, panel, "fence")
        dark = shade(colour, 0.65 if solid else 0.9)
        bars = 4 if solid else 7
        for bar in range(bars):
            at = near_z + (far_z - near_z) * bar / bars
            picket = canvas.points(at, (x, 0.05), (x, height * 0.97))
            canvas.line(picket, 0.05 * canvas.scale(at), dark)
        for y in (0.2, 0.9):  # rails
            ends = [canvas.project(x, y * height, near_z), canvas.project(x, y * height, far_z)]
            canvas.line(ends, 0.08 * canvas.scale(near_z), dark)


def draw_foliage(canvas: Canvas, x: float, y: float, z: float, radius: float) -> None:
    """Leaves: many blobs around (x, y), dark ones below and behind, light ones above."""
    style, rng = canvas.style, canvas.rng
    tone = canvas.colour("vegetation", 8)
    count = max(5, round(style.crown_blobs - style.bare_blobs * rng.random()))
    places = rng.normal(0, 0.42, (count, 2)).clip(-0.95, 0.95)
    for rank, (dx, dy) in enumerate(places):
        light = 0.78 + 0.22 * rank / count + 0.16 * dy + rng.normal(0, 0.05)
        size = radius * style.crown_blob_size * rng.uniform(0.75, 1.25) * canvas.scale(z)
        centre = canvas.project(x + radius * dx, y + radius * 0.9 * dy, z)
        canvas.ellipse(centre, (size, size * 0.88), shade(tone, light), "vegetation", z)


def draw_tree(canvas: Canvas, x: float, z: float) -> None:
    """A trunk with two boughs, and a crown. The trunk is vegetation too, as in Cityscapes."""
    rng = canvas.rng
    height, radius = rng.uniform(4.2, 7.5), rng.uniform(1.3, 2.5)
    trunk = canvas.colour("trunk", 6)
    crown = height * 0.75
    canvas.contact_shadow(x - radius * 0.8, x + radius * 0.8, z, 0.72)
    outline = ((x - 0.18, 0), (x + 0.18, 0), (x + 0.09, crown), (x - 0.09, crown))
    canvas.shape(outline, z, trunk, "vegetation")
    for lean in (-1, 1):
        tip = (x + lean * radius * 0.55, crown + radius * 0.3)
        bough = canvas.points(z, (x, crown * 0.7), tip)
        canvas.line(bough, 0.12 * canvas.scale(z), trunk, "vegetation", z)
    draw_foliage(canvas, x, crown, z, radius)


def draw_post(canvas: Canvas, x: float, z: float, height: float) -> Colour:
    """A post, never thinner than about one and a half pixels of the finished image."""
    half = max(0.07, 1.5 * canvas.unit / canvas.scale(z))
    colour = canvas.colour("pole", 5)
    canvas.board(x - half, x + half, 0, height, z, colour, "pole")
    canvas.board(x + half * 0.3, x + half, 0, height, z, shade(colour, 0.75))
    return colour


def draw_lamp(canvas: Canvas, x: float, z: float) -> None:
    """A street lamp: a post, and an arm over the road."""
    height = canvas.between((4.5, 6.5))
    colour = draw_post(canvas, x, z, height)
    if canvas.chance(0.6):
        ends = canvas.points(z, (x, height), (x - np.sign(x) * 1.5, height + 0.25))
        thickness = max(3 * canvas.unit, 0.12 * canvas.scale(z))
        canvas.line(ends, thickness, colour, "pole", z)
        radii = (max(3 * canvas.unit, 0.35 * canvas.scale(z)), thickness * 0.7)
        canvas.ellipse(ends[1], radii, shade(colour, 1.2), "pole", z)


def draw_sign(canvas: Canvas, x: float, z: float) -> None:
    """A traffic sign on a post: round, three-cornered or a board."""
    height = canvas.between((2.5, 3.3))
    draw_post(canvas, x, z, height)
    radius = max(canvas.between((0.42, 0.66)), 4 * canvas.unit / canvas.scale(z))
    colour, face = canvas.colour("sign", 6), canvas.colour("sign_face", 4)
    size = radius * canvas.scale(z)
    centre = canvas.project(x, height, z)
    kind = canvas.rng.integers(3)
    if kind == 0:
        canvas.ellipse(centre, (size, size), colour, "sign", z)
        canvas.ellipse(centre, (size * 0.62, size * 0.62), face)
        if canvas.chance(0.5):
            bar = radius * 0.4  # no entry
            canvas.board(x - bar, x + bar, height - 0.09, height + 0.09, z, colour)
    elif kind == 1:
        for share, tone, label in ((1.0, colour, "sign"), (0.55, face, None)):
            wide, low = radius * 1.05 * share, height - radius * 0.75 * share
            outline = ((x - wide, low), (x + wide, low), (x, height + radius * share))
            canvas.shape(outline, z, tone, label)
    else:
        x0, x1 = x - radius, x + radius
        canvas.board(x0, x1, height - radius, height + radius, z, colour, "sign")
        inset = radius * 0.3
        for y in (-0.35, 0.25):
            bottom = height + radius * y
            canvas.board(x0 + inset, x1 - inset, bottom, bottom + radius * 0.25, z, face)


def draw_traffic_light(canvas: Canvas, x: float, z: float) -> None:
    """Three lamps in a housing on a post; one lamp burns."""
    height = canvas.between((3.0, 4.0))
    draw_post(canvas, x, z, height)
    half = max(0.30, 2.6 * canvas.unit / canvas.scale(z))
    tall = half * 2.3
    housing = canvas.colour("light", 5)
    canvas.board(x - half, x + half, height - tall, height + tall, z, housing, "light")
    burning = canvas.rng.integers(3)
    for place, lamp in enumerate(((250, 44, 34), (250, 190, 36), (44, 230, 96))):
        tone = lamp if place == burning else shade(lamp, 0.28)
        radius = half * 0.62 * canvas.scale(z)
        centre = canvas.project(x, height + (1 - place) * tall * 0.62, z)
        canvas.ellipse(centre, (radius, radius), tone)


def draw_person(canvas: Canvas, x: float, z: float) -> None:
    """Somebody who stands or walks: legs, arms, torso, head, hair."""
    rng = canvas.rng
    tall = rng.uniform(1.5, 1.95)
    stride, sway = rng.uniform(0, 0.22), rng.choice((-1, 1))
    shirt, trousers = canvas.colour("shirt"), canvas.colour("trousers")
    skin, hair = canvas.one_of(SKIN), canvas.one_of(HAIR)
    canvas.contact_shadow(x - 0.4, x + 0.4, z, 0.6)
    hip, shoulder = tall * 0.50, tall * 0.83
    for leg, tone in ((-1, 0.85), (1, 1.0)):
        foot = x + leg * (0.10 + stride)
        outline = ((foot - 0.10, 0), (foot + 0.11, 0), (x + leg * 0.09 + 0.12, hip))
        canvas.shape((*outline, (x + leg * 0.09 - 0.12, hip)), z, shade(trousers, tone), "person")
        canvas.board(foot - 0.11, foot + 0.14, 0, 0.07, z, (36, 32, 32), "person")
    thick, sleeve = max(2 * canvas.unit, 0.13 * canvas.scale(z)), shade(shirt, 0.85)
    for arm in (-1, 1):
        hand = x + arm * 0.33 + sway * arm * stride * 0.5
        bend = ((x + arm * 0.22, shoulder - 0.05), (x + arm * 0.33, tall * 0.64))
        canvas.line(canvas.points(z, *bend, (hand, tall * 0.48)), thick, sleeve, "person", z)
    half_torso = ((0.20, hip - 0.06), (0.27, shoulder - 0.04), (0.12, shoulder + 0.04))
    torso = [(x + dx, y) for dx, y in half_torso]
    torso += [(x - dx, y) for dx, y in reversed(half_torso)]
    canvas.shape(torso, z, shirt, "person")
    draw_head(canvas, x, tall * 0.91, z, skin, hair)


def draw_head(canvas, x, y, z, skin, hair) -> None:
    size = 0.135 * canvas.scale(z)
    canvas.ellipse(canvas.project(x, y + 0.05, z), (size * 1.08, size * 1.2), hair, "person", z)
    canvas.ellipse(canvas.project(x, y - 0.02, z), (size * 0.9, size * 1.05), skin, "person", z)


def draw_bicycle(canvas: Canvas, x: float, z: float, ridden: bool) -> None:
    """A bicycle seen from its side; whoever rides it is a person.

    The wheels are labelled as full discs, as in Cityscapes, though one sees through them.
    """
    scale, unit = canvas.scale(z), canvas.unit
    colour = canvas.colour("bicycle")
    way = canvas.rng.choice((-1, 1))
    canvas.contact_shadow(x - 0.85, x + 0.85, z, 0.6)
    radius = 0.36 * scale

    def places(*corners):
        return canvas.points(z, *((x + way * dx, y) for dx, y in corners))

    rear, front, saddle, pedals, head = places(
        (-0.55, 0.36), (0.55, 0.36), (-0.2, 0.88), (-0.05, 0.34), (0.38, 0.9)
    )
    for hub in (rear, front):
        canvas.ellipse(hub, (radius, radius), None, "bicycle", z)
        canvas.ring(hub, radius, max(2, round(0.07 * scale)), TYRE)
    frame = [rear, saddle, pedals, rear, pedals, head, front]
    canvas.line(frame, max(2 * unit, 0.08 * scale), colour, "bicycle", z)
    canvas.line([saddle, head], max(2 * unit, 0.08 * scale), colour, "bicycle", z)
    grip = places((0.38, 0.9), (0.36, 1.05), (0.22, 1.08))
    canvas.line(grip, max(2 * unit, 0.06 * scale), TYRE, "bicycle", z)
    (seat,) = places((-0.22, 0.95))
    canvas.ellipse(seat, (0.14 * scale, 0.06 * scale), TYRE, "bicycle", z)
    if ridden:
        draw_rider(canvas, x, z, way)


def draw_rider(canvas: Canvas, x: float, z: float, way: int) -> None:
    """Somebody on a bicycle that heads to `way` (-1 left, 1 right)."""
    shirt, trousers = canvas.colour("shirt"), canvas.colour("trousers")

    def at(*corners):
        return [(x + way * dx, y) for dx, y in corners]

    thick = max(2 * canvas.unit, 0.15 * canvas.scale(z))
    for foot, knee, tone in (((0.0, 0.25), (0.2, 0.65), 0.8), ((-0.1, 0.45), (0.24, 0.78), 1.0)):
        leg = canvas.points(z, *at((-0.2, 0.98), knee, foot))
        canvas.line(leg, thick, shade(trousers, tone), "person", z)
    back = at((-0.36, 0.95), (-0.02, 0.92), (0.24, 1.38), (0.14, 1.54), (-0.06, 1.46))
    canvas.shape(back, z, shirt, "person")
    arm = canvas.points(z, *at((0.14, 1.42), (0.28, 1.18), (0.36, 1.08)))
    canvas.line(arm, thick * 0.8, shade(shirt, 0.85), "person", z)
    draw_head(canvas, x + way * 0.2, 1.66, z, canvas.one_of(SKIN), canvas.one_of(HAIR))


def draw_car(canvas: Canvas, x: float, z: float, oncoming: bool) -> None:
    """A car that drives along the street: its back (or front) and the flank one sees."""
    length, half, tall = 4.2, 0.9, 1.48
    paint, glass = canvas.colour("car"), canvas.colour("glass", 6)
    flank = shade(paint, 0.72)
    canvas.contact_shadow(x - half - 0.25, x + half + 0.25, z)
    far = z + length
    inwards = 1 if x < canvas.camera_x else -1  # which flank shows
    edge = x + inwards * half
    roof = x + inwards * half * 0.74
    canvas.wall(edge, 0.22, 0.92, z, far, flank, "car")
    cabin = ((edge, 0.9, z + 0.2), (edge, 0.9, far - 1.0), (roof, tall, far - 1.7))
    canvas.surface((*cabin, (roof, tall, z + 0.6)), z + 2, flank, "car")
    pane = ((edge, 0.95, z + 0.55), (edge, 0.95, far - 1.25), (roof, tall - 0.1, far - 1.8))
    canvas.surface((*pane, (roof, tall - 0.1, z + 0.85)), z + 2, glass)
    for axle in (z + 0.8, far - 0.8):
        turns = np.linspace(0, 2 * np.pi, 9)[:-1]
        rim = [(edge, 0.32 + 0.32 * np.sin(t), axle + 0.32 * np.cos(t)) for t in turns]
        canvas.surface(rim, axle, TYRE, "car")
    # The face towards us: wheels, body, rear window, lamps, plate, bumper.
    for side in (-1, 1):
        canvas.board(x + side * 0.70 - 0.14, x + side * 0.70 + 0.14, 0, 0.3, z, TYRE, "car")
    body = ((x - half, 0.24), (x + half, 0.24), (x + half, 0.85), (x + half * 0.92, 0.97))
    canvas.shape((*body, (x - half * 0.92, 0.97), (x - half, 0.85)), z, paint, "car")
    top = half * 0.72
    outline = ((x - half * 0.92, 0.95), (x + half * 0.92, 0.95), (x + top, tall), (x - top, tall))
    canvas.shape(outline, z, paint, "car")
    outline = ((x - half * 0.8, 1.0), (x + half * 0.8, 1.0), (x + top * 0.9, tall - 0.09))
    canvas.shape((*outline, (x - top * 0.9, tall - 0.09)), z, glass)
    canvas.board(x - half, x + half, 0.24, 0.40, z, shade(paint, 0.55))
    lamp = (246, 240, 205) if oncoming else (196, 34, 30)
    for side in (-1, 1):
        canvas.board(x + side * 0.68 - 0.15, x + side * 0.68 + 0.15, 0.66, 0.82, z, lamp)
    canvas.board(x - 0.26, x + 0.26, 0.46, 0.58, z, (222, 220, 206))


def draw_crossing_car(canvas: Canvas, x: float, z: float) -> None:
    """A car that crosses the street, seen from its side."""
    way = canvas.rng.choice((-1, 1))
    paint, glass = canvas.colour("car"), canvas.colour("glass", 6)
    canvas.contact_shadow(x - 2.2, x + 2.2, z)

    def outline(*corners):
        return [(x + way * dx, y) for dx, y in corners]

    body = outline((-2.1, 0.25), (2.1, 0.25), (2.1, 0.72), (1.85, 0.86), (1.05, 0.95), (0.45, 1.46))
    body += outline((-1.1, 1.46), (-1.75, 0.98), (-2.1, 0.9))
    canvas.shape(body, z, paint, "car")
    canvas.board(x - 2.1, x + 2.1, 0.25, 0.42, z, shade(paint, 0.6))
    canvas.shape(outline((0.85, 0.95), (0.38, 1.36), (-0.25, 1.36), (-0.25, 0.95)), z, glass)
    canvas.shape(outline((-0.35, 0.95), (-0.35, 1.36), (-1.05, 1.36), (-1.5, 0.98)), z, glass)
    for axle in (-1.3, 1.3):
        size = 0.34 * canvas.scale(z)
        canvas.ellipse(canvas.project(x + axle, 0.34, z), (size, size), TYRE, "car", z)
        canvas.ellipse(canvas.project(x + axle, 0.34, z), (size * 0.5,) * 2, (128, 128, 130))


def draw_bus(canvas: Canvas, x: float, z: float) -> None:
    """A bus that drives along the street."""
    length, half, tall = 10.0, 1.25, canvas.between((2.9, 3.5))
    paint, glass = canvas.colour("bus"), canvas.colour("glass", 6)
    flank = shade(paint, 0.78)
    canvas.contact_shadow(x - half - 0.3, x + half + 0.3, z)
    edge = x + (half if x < canvas.camera_x else -half)
    far = z + length
    canvas.wall(edge, 0.3, tall, z, far, flank, "bus")
    for pane in reversed(range(6)):
        at = z + 0.5 + 1.55 * pane
        canvas.wall(edge, 1.4, tall - 0.5, at, at + 1.3, glass)
    for axle in (z + 2, far - 2):
        canvas.wall(edge, 0.05, 0.85, axle - 0.45, axle + 0.45, TYRE, "bus")
    for side in (-1, 1):
        canvas.board(x + side * 0.9 - 0.18, x + side * 0.9 + 0.18, 0, 0.35, z, TYRE, "bus")
    canvas.board(x - half, x + half, 0.3, tall, z, paint, "bus")
    canvas.board(x - half * 0.88, x + half * 0.88, 1.35, tall - 0.6, z, glass)
    canvas.board(x - half * 0.6, x + half * 0.6, tall - 0.48, tall - 0.14, z, (40, 40, 42))
    canvas.board(x - half * 0.45, x + half * 0.45, tall - 0.38, tall - 0.24, z, (236, 190, 70))
    canvas.board(x - half, x + half, 0.3, 0.55, z, shade(paint, 0.6))
    for side in (-1, 1):
        lamp_x = x + side * half * 0.78
        canvas.board(lamp_x - 0.16, lamp_x + 0.16, 0.68, 0.95, z, (204, 44, 34))
