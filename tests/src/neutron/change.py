"""Changes a module of Neutron's as soon as it has been loaded. Python runs this first, as it is called sitecustomize."""
import importlib.abc
import importlib.util
import pathlib
import sys

CODE = pathlib.Path(__file__).with_name("change.py").read_text()


class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name != "MODULE":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        load = spec.loader.exec_module

        def exec_module(module):
            load(module)
            exec(compile(CODE, "change.py", "exec"), {"module": module})

        spec.loader.exec_module = exec_module
        return spec


sys.meta_path.insert(0, Finder())
