//! A FUSE file system that shows every named volume as a directory.

pub mod control;
pub mod diskimg;
pub mod failpoint;
pub mod fuse;
pub mod meta;
pub mod model;
pub mod sys;
pub mod volume;
