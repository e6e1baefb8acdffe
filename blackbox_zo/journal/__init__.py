"""The journal: append-only JSON lines. A run is its header and its answers; to resume it is to replay them."""

from blackbox_zo.journal._events import Changed as Changed
from blackbox_zo.journal._events import Known as Known
from blackbox_zo.journal._file import Journal as Journal
from blackbox_zo.journal._reader import JournalReader as JournalReader
from blackbox_zo.journal._reader import read_header as read_header
from blackbox_zo.journal._reader import read_journal as read_journal
from blackbox_zo.journal.lines import FORMAT as FORMAT
from blackbox_zo.journal.lines import Answers as Answers
from blackbox_zo.journal.lines import Line as Line
from blackbox_zo.journal.lines import Measured as Measured
