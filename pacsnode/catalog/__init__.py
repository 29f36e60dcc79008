"""The index of what is stored: the only room that imports peewee."""

from pacsnode.catalog.catalog import Catalog

__all__ = ["Catalog"]
