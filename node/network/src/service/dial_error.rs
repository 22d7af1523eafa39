//! Why a dial failed, in words for people. libp2p joins all causes of all addresses into one text of several lines.

use libp2p::swarm::DialError;

/// The innermost cause of a failed dial.
pub(super) fn in_words(error: &DialError) -> String {
    match error {
        DialError::LocalPeerId { .. } => "this node's own key answers there".into(),
        DialError::WrongPeerId { obtained, .. } => format!("another peer answers there: {obtained}"),
        other => root_cause(&other.to_string()).to_owned(),
    }
}

fn root_cause(text: &str) -> &str {
    let text = text.trim_end();
    // libp2p ends its list of the addresses that it tried with these two characters.
    let text = text.strip_suffix(")]").unwrap_or(text);
    // The causes of two dials to one address end the line alike.
    let causes = text.split('\n').flat_map(|line| line.split(": ")).map(str::trim);
    causes.filter(|cause| !cause.is_empty()).last().unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dial_error_reports_its_root_cause() {
        let refused = "Failed to negotiate transport protocol(s): [(/ip4/127.0.0.1/tcp/1: : Other\n - x: Connection refused (os error 111): Connection refused (os error 111))]";
        assert_eq!(root_cause(refused), "Connection refused (os error 111)");
        let twice = "Failed to negotiate transport protocol(s): [(/ip4/127.0.0.1/tcp/1: : Multiple dial errors occurred:\n - Connection refused (os error 111): Multiple dial errors occurred:\n - Connection refused (os error 111): Connection refused (os error 111))]";
        assert_eq!(root_cause(twice), "Connection refused (os error 111)");
        assert_eq!(root_cause("Dial error: no addresses for peer."), "no addresses for peer.");
        assert_eq!(root_cause(""), "");
    }
}
