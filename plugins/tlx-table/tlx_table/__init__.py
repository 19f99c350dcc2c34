"""Tables for tlx: rows of numbers and categories, read, standardised and one-hot encoded."""

from tlx_table.row_field import Row as Row
from tlx_table.row_input import RowInput as RowInput

__version__ = "0.1.0"
