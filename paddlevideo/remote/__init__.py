"""Files of object stores and web servers, by URL: `s3://`, `gs://`, `oss://`, `hdfs://`, `http://`.

    file = open_url("s3://videos/long.mp4")   # seekable; only what is read is transferred
    path = local_copy("s3://lists/train.csv")  # a whole file, in the cache

fsspec and the packages of its schemes do the transfer (extra `remote`). Credentials and endpoints
are those of these packages: their environment variables and files.
"""

from paddlevideo.remote.access import AccessError, Info, MissingError, RemoteError, get_info
from paddlevideo.remote.block_cache import Cache, CacheSettings, current_cache, use_cache
from paddlevideo.remote.copies import local_copy, local_folder
from paddlevideo.remote.reading import (
    absolute_path,
    exists,
    file_identity,
    glob_url,
    is_file,
    is_folder,
    list_url,
    names_below,
    open_url,
    read_bytes,
)
from paddlevideo.remote.sized_file import SizedFile
from paddlevideo.remote.storing import (
    atomic_file,
    check_storable,
    put_file,
    put_folder,
    remove,
    written,
)
from paddlevideo.remote.url_file import UrlFile
from paddlevideo.urls import (
    as_path,
    is_url,
    join_path,
    parent_path,
    path_below,
    path_name,
    path_suffix,
    shown,
    without_query,
)

__all__ = [
    "AccessError",
    "Cache",
    "CacheSettings",
    "Info",
    "MissingError",
    "RemoteError",
    "SizedFile",
    "UrlFile",
    "absolute_path",
    "as_path",
    "atomic_file",
    "check_storable",
    "current_cache",
    "exists",
    "file_identity",
    "get_info",
    "glob_url",
    "is_file",
    "is_folder",
    "is_url",
    "join_path",
    "list_url",
    "local_copy",
    "local_folder",
    "names_below",
    "open_url",
    "parent_path",
    "path_below",
    "path_name",
    "path_suffix",
    "put_file",
    "put_folder",
    "read_bytes",
    "remove",
    "shown",
    "use_cache",
    "without_query",
    "written",
]
