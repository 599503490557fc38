//! The harness tried on itself: what every other test stands on.

mod clouds;
mod control_plane;
mod nothing_is_left_behind;
mod whole_world;
