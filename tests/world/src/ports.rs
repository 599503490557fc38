//! Free ports for programs that must be told theirs.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Context, Result};

/// Below what Linux gives to outgoing connections and to port 0 (`ip_local_port_range`: 32768 and up), where a port that
/// is free now is taken a moment later by any client of this machine.
const FIRST: u16 = 12_000;
const COUNT: u16 = 20_000;

/// How many ports this process has been through.
static NEXT: AtomicU16 = AtomicU16::new(0);

/// `N` different ports that nobody listens on now, and that this process has not been given before. Another program
/// could take one before ours does; that is seen when ours says so in its log.
pub(crate) fn free<const N: usize>() -> Result<[u16; N]> {
    let mut ports = [0; N];
    for port in &mut ports {
        *port = (0..COUNT)
            .map(|_| candidate(NEXT.fetch_add(1, Ordering::Relaxed)))
            .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
            .context("no free port on 127.0.0.1")?;
    }
    Ok(ports)
}

/// Processes that run side by side begin at different places.
fn candidate(turn: u16) -> u16 {
    let begin = std::process::id().wrapping_mul(997) % u32::from(COUNT);
    let place = (begin + u32::from(turn)) % u32::from(COUNT);
    FIRST + u16::try_from(place).expect("less than COUNT")
}
