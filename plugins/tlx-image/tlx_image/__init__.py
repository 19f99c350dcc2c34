"""Images for tlx: how they are read, placed on a canvas, normalised and changed."""

from tlx_image.boxes_field import Boxes as Boxes
from tlx_image.image_field import Image as Image
from tlx_image.image_input import ImageInput as ImageInput
from tlx_image.mask_field import Mask as Mask
from tlx_image.model_images import image_input as image_input
from tlx_image.model_images import with_image_input as with_image_input
from tlx_image.pixels import normalize as normalize
from tlx_image.resample import sample_bilinear as sample_bilinear
from tlx_image.resample import sample_nearest as sample_nearest

__version__ = "0.1.0"
