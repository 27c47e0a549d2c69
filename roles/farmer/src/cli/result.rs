//! What commands end with.

use std::error::Error;

/// What a command ends with. The error's text is all that the operator sees, so it names its cause.
pub type CommandResult = Result<(), Box<dyn Error>>;
