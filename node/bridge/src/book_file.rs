//! The file of known legacy peers: `known_peer` in the data directory, one `host:port` a line, which
//! is the reference's own file and format.

use std::{io::Read as _, path::Path};

use spore_base::peer_address::PeerAddress;
use spore_base::private_file::{FileError, write_private};

use super::limits::{KNOWN, KNOWN_BYTES};

/// What the file said.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    pub peers: Vec<PeerAddress>,
    /// Numbers of lines that are no address, beginning with 1.
    pub unreadable: Vec<usize>,
    /// Numbers of lines that name more peers than are kept.
    pub beyond: Vec<usize>,
    /// Number of the first line that was not read, for there is more than the file may hold.
    pub cut: Option<usize>,
}

/// Reads the file; nothing when there is none.
///
/// # Errors
/// When it cannot be read.
pub fn load(path: &Path) -> Result<Loaded, FileError> {
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Loaded::default()),
        Err(e) => return Err(FileError::io(path)(e)),
    };
    let mut bytes = Vec::new();
    file.take(KNOWN_BYTES + 1).read_to_end(&mut bytes).map_err(FileError::io(path))?;
    let whole = bytes.len() as u64 <= KNOWN_BYTES;
    let text = String::from_utf8_lossy(&bytes);
    // A line that was cut off might still look like an address, of another port.
    let text = if whole { &text } else { text.rsplit_once('\n').map_or("", |(lines, _)| lines) };
    Ok(Loaded { cut: (!whole).then(|| text.lines().count() + 1), ..parse(text) })
}

/// Writes the file anew, in one step.
///
/// # Errors
/// When it cannot be written; the old one is then still there.
pub fn save(path: &Path, peers: &[PeerAddress]) -> Result<(), FileError> {
    write_private(path, text(peers).as_bytes())
}

fn parse(text: &str) -> Loaded {
    let mut loaded = Loaded::default();
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

/// IPv6 addresses stay out: the reference, which may be started on the same directory, ends with an
/// error where it finds one. Peers are told of by names and IPv4 addresses only, so that these can only
/// be peers of the operator's own, which the configuration keeps.
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
        fn what_is_written_is_read_again(peers in proptest::collection::btree_set(address(), 0..KNOWN)) {
            let peers: Vec<_> = peers.into_iter().collect();
            prop_assert_eq!(parse(&text(&peers)), Loaded { peers, ..Loaded::default() });
        }

        #[test]
        fn any_text_is_read(text in "(?s).{0,300}") {
            let loaded = parse(&text);
            prop_assert!(loaded.peers.len() + loaded.unreadable.len() <= text.lines().count());
        }
    }

    #[test]
    fn unreadable_lines_are_told_and_kept_out() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("known_peer");
        assert_eq!(load(&path).unwrap(), Loaded::default());
        fs::write(&path, b"192.0.2.1:7470\n\nnonsense\n peer.example.org:7470 \n\xff:1\n192.0.2.1:7470\n").unwrap();
        let loaded = load(&path).unwrap();
        let shown: Vec<_> = loaded.peers.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["192.0.2.1:7470", "peer.example.org:7470"]);
        assert_eq!((loaded.unreadable, loaded.cut), (vec![3, 5], None));
    }

    #[test]
    fn the_file_is_bounded_private_and_legible_to_the_reference() {
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
