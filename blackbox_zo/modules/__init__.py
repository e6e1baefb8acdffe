"""The parameters of torch modules as a variable."""

from blackbox_zo.modules._module import Module as Module
