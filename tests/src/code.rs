//! What the code of a Rust file does, read with `syn`, for the tidy rules.

use syn::{spanned::Spanned as _, visit::Visit};

use crate::source::{Source, files};

/// The lints that every crate denies.
pub const CLIPPY_DENIALS: [&str; 7] =
    ["unwrap_used", "expect_used", "panic", "todo", "unimplemented", "indexing_slicing", "dbg_macro"];

/// All Rust files of the repository, except patched dependencies.
pub fn rust_sources() -> Vec<Source> {
    files(&[".rs"]).into_iter().filter(|source| !source.within("patches")).collect()
}

/// What one file's code does, outside tests unless said otherwise.
#[derive(Default)]
pub struct Code {
    in_test: bool,
    /// Paths as written, such as `std::env::var`, with their lines.
    pub paths: Vec<(String, usize)>,
    pub macros: Vec<(String, usize)>,
    /// Name, lines, and whether it is part of a test.
    pub functions: Vec<(String, usize, bool)>,
    /// Lines of attributes that allow a denied lint and do not say why.
    pub bare_allows: Vec<usize>,
}

fn is_test(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        syn::Meta::List(list) => list.path.is_ident("cfg") && list.tokens.to_string().contains("test"),
        syn::Meta::Path(path) => path.segments.last().is_some_and(|last| last.ident == "test"),
        syn::Meta::NameValue(_) => false,
    }) || attributes.iter().any(|a| a.path().segments.last().is_some_and(|last| last.ident == "test"))
}

impl Code {
    /// Visits below an item, remembering whether it is a test's.
    fn below(&mut self, attributes: &[syn::Attribute], visit: impl FnOnce(&mut Self)) {
        let outer = self.in_test;
        self.in_test |= is_test(attributes);
        visit(self);
        self.in_test = outer;
    }

    fn function(&mut self, signature: &syn::Signature, block: &syn::Block) {
        let (start, end) = (signature.span().start().line, block.span().end().line);
        self.functions.push((signature.ident.to_string(), end - start + 1, self.in_test));
    }

    fn path(&mut self, path: String, line: usize) {
        if !self.in_test {
            self.paths.push((path, line));
        }
    }

    fn use_tree(&mut self, prefix: &str, tree: &syn::UseTree) {
        let join = |name: &syn::Ident| if prefix.is_empty() { name.to_string() } else { format!("{prefix}::{name}") };
        match tree {
            syn::UseTree::Path(path) => self.use_tree(&join(&path.ident), &path.tree),
            syn::UseTree::Name(name) => self.path(join(&name.ident), name.ident.span().start().line),
            syn::UseTree::Rename(name) => self.path(join(&name.ident), name.ident.span().start().line),
            syn::UseTree::Glob(glob) => self.path(prefix.to_owned(), glob.span().start().line),
            syn::UseTree::Group(group) => group.items.iter().for_each(|tree| self.use_tree(prefix, tree)),
        }
    }
}

impl<'ast> Visit<'ast> for Code {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        self.below(&item.attrs, |code| syn::visit::visit_item_mod(code, item));
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.below(&item.attrs, |code| {
            code.function(&item.sig, &item.block);
            syn::visit::visit_item_fn(code, item);
        });
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.below(&item.attrs, |code| {
            code.function(&item.sig, &item.block);
            syn::visit::visit_impl_item_fn(code, item);
        });
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.below(&item.attrs, |code| code.use_tree("", &item.tree));
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names: Vec<_> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        // A lone name is no crate's path but a variable's or a function's.
        if names.len() > 1 {
            self.path(names.join("::"), path.span().start().line);
        }
        syn::visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, item: &'ast syn::Macro) {
        let name = item.path.segments.last().map(|segment| segment.ident.to_string()).unwrap_or_default();
        if !self.in_test {
            self.macros.push((name, item.span().start().line));
        }
        syn::visit::visit_macro(self, item);
    }

    fn visit_attribute(&mut self, attribute: &'ast syn::Attribute) {
        if let syn::Meta::List(list) = &attribute.meta
            && (list.path.is_ident("allow") || list.path.is_ident("expect"))
        {
            let lints = list.tokens.to_string();
            if CLIPPY_DENIALS.iter().any(|lint| lints.contains(lint)) && !lints.contains("reason") && !self.in_test {
                self.bare_allows.push(attribute.span().start().line);
            }
        }
    }
}

/// Each Rust file with what its code does. A file that only tests use is a test throughout.
pub fn code() -> Vec<(Source, Code)> {
    let parse = |source: Source| {
        let file = syn::parse_file(&source.text).unwrap_or_else(|e| panic!("{}: {e}", source.path));
        let test_file = source.path.contains("/tests/")
            || ["/tests.rs", "/testing.rs"].iter().any(|end| source.path.ends_with(end));
        let mut code = Code { in_test: test_file, ..Code::default() };
        code.visit_file(&file);
        (source, code)
    };
    rust_sources().into_iter().map(parse).collect()
}
