//! The mount outlives the process that serves it.

#[path = "../support/mod.rs"]
mod support;

mod commands;
mod killed;
mod killing;
mod memory;
mod steps;
mod storm;
mod stress;
mod survives;
mod upgrade;
mod workloads;
