//! A node of a development chain.
pub mod history;
