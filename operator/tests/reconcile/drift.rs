//! What others do to the children.
