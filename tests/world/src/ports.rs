//! Free ports for programs that must be told theirs.

use std::net::TcpListener;

use anyhow::{Context, Result};

/// `N` different ports that nobody listens on now. Another program could take one before ours does; that is seen
/// when ours says so in its log.
pub(crate) fn free<const N: usize>() -> Result<[u16; N]> {
    // All are held until the last is known, so that they differ.
    let held = (0..N)
        .map(|_| TcpListener::bind(("127.0.0.1", 0)))
        .collect::<Result<Vec<_>, _>>()
        .context("no free port on 127.0.0.1")?;
    let mut ports = [0; N];
    for (port, listener) in ports.iter_mut().zip(&held) {
        *port = listener.local_addr()?.port();
    }
    Ok(ports)
}
