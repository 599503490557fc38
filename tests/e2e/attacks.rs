//! What somebody tries who may write bindings, or once could: each story is an attack, and ends with what EC2's journal
//! has of it.

mod guessing;
mod hostile_words;
mod laundering;
mod left_behind;
mod other_accounts;
mod protected_instances;
mod races;
mod squatting;
