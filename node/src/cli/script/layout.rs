//! The layout of a script: white space that means nothing.
//!
//! Pure. Lines keep their order and their words: a formatter that breaks lines would make every diff of an experiment
//! larger than its change.

/// Most empty lines in a row that stay.
const EMPTY_LINES: usize = 2;
/// Columns of a tab at the beginning of a line, as Starlark's users write them.
const TAB: &str = "    ";

/// The script with spaces for leading tabs, without white space at the ends of lines, with at most [`EMPTY_LINES`]
/// empty lines in a row, none at the beginning, and one line end at the end.
pub fn tidied(script: &str) -> String {
    let mut tidy = String::with_capacity(script.len());
    let mut empty = 0;
    for line in script.lines() {
        let line = line.trim_end();
        if line.is_empty() {
            empty += 1;
            continue;
        }
        let kept = if tidy.is_empty() { 0 } else { empty.min(EMPTY_LINES) };
        tidy.push_str(&"\n".repeat(kept));
        empty = 0;
        let words = line.trim_start_matches(['\t', ' ']);
        let indent = line.get(..line.len() - words.len()).unwrap_or_default();
        tidy.push_str(&indent.replace('\t', TAB));
        tidy.push_str(words);
        tidy.push('\n');
    }
    tidy
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space_without_meaning_goes_and_words_stay() {
        let untidy = "\n\n# a\t \n\n\n\n\ndef f(x):\t\n\tif x:   \n\t    return  1\n\n\n";
        assert_eq!(tidied(untidy), "# a\n\n\ndef f(x):\n    if x:\n        return  1\n");
        assert_eq!(tidied(&tidied(untidy)), tidied(untidy));
        assert_eq!(tidied(""), "");
    }
}
