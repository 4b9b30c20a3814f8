//! Whole stories, as a person would live them.

mod bounds;
mod command_line;
mod first_light;
mod hold;
mod payment;
mod restart;
