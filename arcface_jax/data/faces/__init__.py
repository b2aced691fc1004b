"""A parametric face renderer: any number of made-up people, and the truth about every image.

A head is an ellipsoid whose jaw, cheeks and forehead are widened or narrowed. Each pixel's ray
meets it in closed form, so the features painted on its surface move, foreshorten and vanish with
the pose, and its normals, dented and raised by relief, are lit by one directional light:

    radiance = albedo * (ambient + intensity * max(0, (n . l + 0.2) / 1.2)) + highlight
    pixel    = 255 sqrt(radiance)

Who a face is (:class:`Identity`) is spread over some fifty measures; what else changes between two
images of it (:class:`Nuisances`) is kept apart and can be stored beside each image.

Lengths are in units of half the head's height, x to the right of the image, y up, z to the camera.

>>> person = draw_identity(7, seed=0)
>>> image = render(person, Nuisances(yaw=20.0, smile=0.5), size=32)
>>> image.shape, image.dtype
((32, 32, 3), dtype('uint8'))
"""

from arcface_jax.data.faces.colours import Colour as Colour
from arcface_jax.data.faces.contact_sheet import contact_sheet as contact_sheet
from arcface_jax.data.faces.identity import Identity as Identity
from arcface_jax.data.faces.identity import draw_identity as draw_identity
from arcface_jax.data.faces.nuisances import OCCLUSIONS as OCCLUSIONS
from arcface_jax.data.faces.nuisances import Nuisances as Nuisances
from arcface_jax.data.faces.nuisances import draw_nuisances as draw_nuisances
from arcface_jax.data.faces.render import render as render
