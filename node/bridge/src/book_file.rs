//! The file of known legacy peers: `known_peer` in the data directory, one `host:port` a line. The reference has the
//! same file in the same format.

use std::{io::Read as _, path::Path};

use spore_base::{
    peer_address::PeerAddress,
    private_file::{FileError, write_private},
};

use super::limits::{KNOWN, KNOWN_BYTES};

/// The content of the file.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct PeerFile {
    pub peers: Vec<PeerAddress>,
    /// Numbers of the lines that hold no address. The first line is 1.
    pub unreadable: Vec<usize>,
    /// Numbers of the lines that name more peers than are kept.
    pub beyond: Vec<usize>,
    /// Number of the first line that was not read, when the file is longer than it may be.
    pub cut: Option<usize>,
}

/// Reads the file. An absent file is an empty one.
///
/// # Errors
/// When the file cannot be read.
pub fn load(path: &Path) -> Result<PeerFile, FileError> {
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(PeerFile::default()),
        Err(e) => return Err(FileError::io(path)(e)),
    };
    let mut bytes = Vec::new();
    file.take(KNOWN_BYTES + 1).read_to_end(&mut bytes).map_err(FileError::io(path))?;
    let whole = bytes.len() as u64 <= KNOWN_BYTES;
    let text = String::from_utf8_lossy(&bytes);
    // A line that was cut off could still look like an address, with another port.
    let text = if whole { &text } else { text.rsplit_once('\n').map_or("", |(lines, _)| lines) };
    Ok(PeerFile { cut: (!whole).then(|| text.lines().count() + 1), ..parse(text) })
}

/// Replaces the file in one step.
///
/// # Errors
/// When the file cannot be written. The old file is unchanged then.
pub fn save(path: &Path, peers: &[PeerAddress]) -> Result<(), FileError> {
    write_private(path, text(peers).as_bytes())
}

fn parse(text: &str) -> PeerFile {
    let mut loaded = PeerFile::default();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        match line.trim().parse() {
            Ok(peer) if loaded.peers.contains(&peer) => {}
            Ok(_) if loaded.peers.len() >= KNOWN => loaded.beyond.push(number + 1),
            Ok(peer) => loaded.peers.push(peer),
            Err(_) => loaded.unreadable.push(number + 1),
        }
    }
    loaded
}

/// IPv6 addresses are left out: the reference, which may be started on the same directory, stops with an error at an
/// IPv6 address. Peers name each other by DNS names and IPv4 addresses only, so an IPv6 address comes from the
/// operator, and the configuration keeps it.
fn text(peers: &[PeerAddress]) -> String {
    let legible = peers.iter().filter(|peer| peer.is_legible_to_the_reference());
    legible.take(KNOWN).map(|peer| format!("{peer}\n")).collect()
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use proptest::prelude::*;

    use super::*;

    fn address() -> impl Strategy<Value = PeerAddress> {
        let text = prop_oneof![
            (any::<[u8; 4]>(), 1u16..).prop_map(|([a, b, c, d], port)| format!("{a}.{b}.{c}.{d}:{port}")),
            ("[a-z][a-z0-9-]{0,20}(\\.[a-z]{2,5}){0,2}", 1u16..).prop_map(|(name, port)| format!("{name}:{port}")),
        ];
        text.prop_map(|text| text.parse().unwrap())
    }

    proptest! {
        #[test]
        fn written_peers_are_read_back(peers in proptest::collection::btree_set(address(), 0..KNOWN)) {
            let peers: Vec<_> = peers.into_iter().collect();
            prop_assert_eq!(parse(&text(&peers)), PeerFile { peers, ..PeerFile::default() });
        }

        #[test]
        fn any_text_can_be_read(text in "(?s).{0,300}") {
            let loaded = parse(&text);
            prop_assert!(loaded.peers.len() + loaded.unreadable.len() <= text.lines().count());
        }
    }

    #[test]
    fn unreadable_lines_are_reported_and_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("known_peer");
        assert_eq!(load(&path).unwrap(), PeerFile::default());
        fs::write(&path, b"192.0.2.1:7470\n\nnonsense\n peer.example.org:7470 \n\xff:1\n192.0.2.1:7470\n").unwrap();
        let loaded = load(&path).unwrap();
        let shown: Vec<_> = loaded.peers.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["192.0.2.1:7470", "peer.example.org:7470"]);
        assert_eq!((loaded.unreadable, loaded.cut), (vec![3, 5], None));
    }

    #[test]
    fn file_is_bounded_private_and_legible_to_the_reference() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("known_peer");
        let mut peers: Vec<PeerAddress> = (1..=KNOWN + 10).map(|n| format!("192.0.2.1:{n}").parse().unwrap()).collect();
        peers.insert(0, "[2001:db8::1]:7470".parse().unwrap());
        save(&path, &peers).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), KNOWN);
        assert!(!text.contains('['));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::write(&path, "192.0.2.1:7470\n".repeat(10_000)).unwrap();
        let loaded = load(&path).unwrap();
        assert_eq!((loaded.peers.len(), loaded.unreadable.len(), loaded.beyond.len()), (1, 0, 0));
        assert_eq!(loaded.cut, Some(KNOWN_BYTES as usize / "192.0.2.1:7470\n".len() + 1));
    }
}
