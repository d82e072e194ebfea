"""What files for reading whose size is known have in common: their position."""

import io
import os


class SizedFile(io.RawIOBase):
    """A seekable file for reading; a class of its own defines `readinto`.

    Attributes:
        size: bytes.
        name: for messages.
    """

    size = 0
    name = ""

    def __init__(self):
        super().__init__()
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """
        Raises:
            ValueError: the position is before the file.
        """
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size}[whence]
        if start + offset < 0:
            raise ValueError(f"{self.name}: position {start + offset} is before the file")
        self._position = start + offset
        return self._position
