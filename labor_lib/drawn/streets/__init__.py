"""The embedded benchmark: street scenes drawn by program, in two domains.

*game* (the source) is clean, saturated and flat, like a video game. *camera* (the target) is hazy,
textured and noisy, like a photograph from a car. A scene is a list of objects placed in metres
in front of a pinhole camera and painted from far to near; colour, label and distance of every
pixel are painted together, so labels are exact and cost nothing.

The gap between the domains is tied to the classes: *each class has its own change of colour*
(from game to camera the dark road gets lighter and the light pavement darker), its own texture,
and other shapes, places and frequencies. No single colour transform of whole images undoes that.

`write_streets` writes the scenes in the published folder layouts of GTA5 and Cityscapes, so the
readers, and everything after them, cannot tell them from the real data sets.
"""

from __future__ import annotations

from labor_lib.drawn.streets.scene import draw_scene
from labor_lib.drawn.streets.write import write_streets

__all__ = ["draw_scene", "write_streets"]
