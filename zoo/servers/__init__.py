"""The servers of the zoo, a module for each kind; `catalogue` has them in the order of the page."""
