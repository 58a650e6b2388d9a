"""How the documentation is built: ``make docs``. Nothing is loaded from the network, and a warning is an error."""

import sys
from importlib.util import find_spec
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

import lossfast

project = "lossfast"
author = "lossfast developers"
copyright = "the lossfast developers"
version = release = lossfast.__version__

extensions = [
    *("accuracy_page", "equivalents_page", "performance_page", "lossfast_reference", "mathml"),
    *("choosing_page", "denominators_page", "history_page", "numerics_page"),
    *("myst_parser", "numpydoc", "sphinx.ext.autodoc", "sphinx_design", "sphinx_gallery.gen_gallery"),
]
exclude_patterns = ["_build", "gallery", "reference/generated/command-line.md"]
default_role = "py:obj"
nitpicky = True
nitpick_ignore_regex = [("py:obj", r"sklearn\..*")]  # of another library's documentation, on the network

# docs/gallery has the scripts, docs/experiments what is made of them. Nothing is linked that lies on the network.
sphinx_gallery_conf = {
    "examples_dirs": "gallery",
    "gallery_dirs": "experiments",
    "ignore_pattern": "mnist",
    "copyfile_regex": r"guesses\.txt|mnist\.py",
    "within_subsection_order": "FileNameSortKey",
    "reset_modules": ("matplotlib", "gallery_style.apply"),
    "capture_repr": (),
    "image_srcset": ["2x"],
    "thumbnail_size": (640, 290),
    "download_all_examples": False,
    "notebook_extensions": set(),
    "show_signature": False,
    "write_computation_times": False,
    "backreferences_dir": None,
}

html_math_renderer = "mathml"
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
numpydoc_show_class_members = False
add_module_names = False
autodoc_typehints = "none"
toc_object_entries = False
highlight_language = "python"

html_theme = "pydata_sphinx_theme"
html_title = "lossfast"
# Formulas need a font with a MATH table, which few systems have: STIX Two, as a package carries it.
html_static_path = ["_static", str(Path(find_spec("ziamath").origin).parent / "fonts")]
html_css_files = ["lossfast.css"]
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False
html_sidebars = {page: [] for page in ("index", "genindex", "search")}
html_theme_options = {
    "logo": {"text": "lossfast"},
    "navbar_align": "left",
    "navbar_end": ["theme-switcher"],
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
