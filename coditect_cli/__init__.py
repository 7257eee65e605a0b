"""coditect: workspaces, terminals that outlive everything, and the migrations that bring them."""

__version__ = "0.1.0"
