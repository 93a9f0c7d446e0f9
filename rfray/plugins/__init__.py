"""Plug-ins: how stages, networks, data sets and knobs from outside are found and run."""

from rfray.plugins.door import (
    NAMING,
    ByPlugins,
    Plugin,
    Shelf,
    nameable,
    plugin_files_in_use,
    read_plugin_files,
    use_plugin_files,
)

__all__ = [
    "NAMING",
    "ByPlugins",
    "Plugin",
    "Shelf",
    "nameable",
    "plugin_files_in_use",
    "read_plugin_files",
    "use_plugin_files",
]
