//! The ports that the node will listen on are free, for IPv4 and for IPv6, or it is told who holds them.

use std::{
    collections::BTreeSet,
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket},
};

use super::Finding;
use crate::{config::Config, data_dir::DataDir, process_file};

/// Processes whose open files are looked through for the holder of a port.
const MOST_PROCESSES: usize = 20_000;

/// A port that the node needs.
struct Wanted {
    about: &'static str,
    port: u16,
    /// The key that chooses another one.
    key: &'static str,
    address: IpAddr,
    udp: bool,
}

/// Looks at each port, unless a node is starting that holds them.
pub fn all(config: &Config, data: &DataDir) -> Vec<Finding> {
    if process_file::is_held(&data.process()) {
        return Vec::new();
    }
    let everywhere = IpAddr::from(Ipv4Addr::UNSPECIFIED);
    let wanted = |about, port, key, address, udp| Wanted { about, port, key, address, udp };
    let mut all = vec![
        wanted("bridge port", config.port, "port", config.host, false),
        wanted("explorer port", config.web_port, "web_port", config.web_host, false),
    ];
    if config.listen.is_empty() {
        all.push(wanted("libp2p port", config.p2p_port, "p2p_port", everywhere, false));
        all.push(wanted("libp2p port", config.p2p_port, "p2p_port", everywhere, true));
    }
    all.extend(config.admin.port.map(|port| wanted("admin port", port, "admin.port", config.admin.host, false)));
    all.iter().map(look).collect()
}

fn look(wanted: &Wanted) -> Finding {
    let Wanted { about, port, key, address, udp } = wanted;
    let kind = if *udp { "UDP" } else { "TCP" };
    // All addresses of a machine are those of both families, and a program may hold one of them only.
    let addresses = match address {
        IpAddr::V4(address) if address.is_unspecified() => {
            vec![IpAddr::from(Ipv4Addr::UNSPECIFIED), IpAddr::from(Ipv6Addr::LOCALHOST)]
        }
        other => vec![*other],
    };
    for address in addresses {
        let wanted = SocketAddr::new(address, *port);
        let bound = if *udp { UdpSocket::bind(wanted).map(drop) } else { TcpListener::bind(wanted).map(drop) };
        let Err(error) = bound else { continue };
        // A machine without IPv6 has no port there to hold.
        if error.kind() == std::io::ErrorKind::AddrNotAvailable && address == IpAddr::from(Ipv6Addr::LOCALHOST) {
            continue;
        }
        let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
        let next = format!("stop that program, or choose another port: `spore config set {key} PORT`");
        if error.kind() == std::io::ErrorKind::AddrInUse {
            let by = holder(*port, *udp, address.is_ipv4()).unwrap_or_else(|| "another program".to_owned());
            return Finding::broken(about, format!("{by} has {kind} port {port} over {family}"), next);
        }
        return Finding::broken(about, format!("{kind} port {port} over {family}: {error}"), next);
    }
    Finding::ok(about, format!("{kind} port {port} is free"))
}

/// The name and the number of the process that holds a port. None where the system does not tell this user.
fn holder(port: u16, udp: bool, v4: bool) -> Option<String> {
    // A socket of IPv6 may hold the port of IPv4 too.
    let tables: &[&str] = match (udp, v4) {
        (false, true) => &["tcp", "tcp6"],
        (false, false) => &["tcp6"],
        (true, true) => &["udp", "udp6"],
        (true, false) => &["udp6"],
    };
    let read = |table: &&str| fs::read_to_string(format!("/proc/net/{table}")).ok();
    let sockets: BTreeSet<String> =
        tables.iter().filter_map(read).flat_map(|text| sockets_of(&text, port, udp)).collect();
    let processes = fs::read_dir("/proc").ok()?.flatten().take(MOST_PROCESSES);
    let holds = |path: &std::path::Path| {
        let links = fs::read_dir(path.join("fd")).into_iter().flatten().flatten();
        links
            .filter_map(|link| fs::read_link(link.path()).ok())
            .any(|to| to.to_str().is_some_and(|to| sockets.contains(to)))
    };
    let process = processes.map(|entry| entry.path()).find(|path| holds(path))?;
    let name = fs::read_to_string(process.join("comm")).unwrap_or_default();
    Some(format!("{} (process {})", name.trim(), process.file_name()?.to_str()?))
}

/// The sockets of a table of the kernel that listen on a port, as links to them are named.
fn sockets_of(table: &str, port: u16, udp: bool) -> Vec<String> {
    const LISTENING: &str = "0A";
    let of_line = |line: &str| {
        let words: Vec<_> = line.split_whitespace().collect();
        let (local, state, inode) = (words.get(1)?, words.get(3)?, words.get(9)?);
        let found = u16::from_str_radix(local.rsplit_once(':')?.1, 16).ok()?;
        (found == port && (udp || *state == LISTENING)).then(|| format!("socket:[{inode}]"))
    };
    table.lines().skip(1).filter_map(of_line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::Level;

    fn wanted(port: u16) -> Wanted {
        Wanted { about: "port", port, key: "port", address: Ipv4Addr::UNSPECIFIED.into(), udp: false }
    }

    #[test]
    fn held_port_names_the_family_and_the_holder() {
        let held = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = held.local_addr().unwrap().port();
        let found = look(&wanted(port));
        assert_eq!(found.level, Level::Broken);
        assert!(found.text.contains("over IPv4") && found.text.contains(&port.to_string()), "{}", found.text);
        assert!(found.next.unwrap().contains("spore config set port"));
        drop(held);
        assert_eq!(look(&wanted(port)).level, Level::Ok);
    }

    #[test]
    fn holder_over_ipv6_alone_is_found() {
        // A machine without IPv6 has none.
        let Ok(held) = TcpListener::bind("[::1]:0") else { return };
        let found = look(&wanted(held.local_addr().unwrap().port()));
        assert!(found.level == Level::Broken && found.text.contains("over IPv6"), "{}", found.text);
    }

    #[test]
    fn listening_socket_is_found_in_the_table_of_the_kernel() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   0: \
                     0100007F:1D2E 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4242 1\n   1: \
                     0100007F:1D2E 0100007F:9999 01 00000000:00000000 00:00000000 00000000     0        0 4243 1\n";
        assert_eq!(sockets_of(table, 0x1d2e, false), ["socket:[4242]"]);
        assert!(sockets_of(table, 1, false).is_empty() && sockets_of("", 1, true).is_empty());
    }
}
