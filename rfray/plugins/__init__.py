"""What comes from outside the package: one door for all of it, and how somebody's file is run."""

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
