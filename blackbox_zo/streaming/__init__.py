"""The parameters of models that are larger than memory, as a variable."""

from blackbox_zo.streaming._module import StreamedModule as StreamedModule
from blackbox_zo.streaming._store import StoreError as StoreError
