"""Texts for tlx: how they are read, told apart, and become numbers of words."""

from tlx_text.bag_input import BagInput as BagInput
from tlx_text.text_field import Text as Text

__version__ = "0.1.0"
