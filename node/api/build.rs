//! Builds the binary anew when the explorer's page was built anew: its files are embedded.

fn main() {
    println!("cargo:rerun-if-changed=../../explorer-ui/dist");
}
