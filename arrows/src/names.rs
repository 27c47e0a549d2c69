//! What one module's text names: its items, its imports, and every path in its code.
//!
//! Text under `#[cfg(test)]` is left out, or marked where it is a module of its own: tests may look wherever they like.

use proc_macro2::{TokenStream, TokenTree};
use std::collections::BTreeSet;
use syn::punctuated::Punctuated;
use syn::visit::{self, Visit};
use syn::{Attribute, Item, ItemUse, Meta, Token, UseTree, Visibility};

/// The name under which a macro's own crate is named in its text.
const DOLLAR_CRATE: &str = "crate";

/// A name that a `use` brings in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Import {
    /// The name here; none for `as _`.
    pub name: Option<String>,
    /// Where it comes from; begins with an empty segment if it was written with a leading `::`.
    pub path: Vec<String>,
    /// `pub use`, of whatever visibility: it hands on, which is no use by itself.
    pub handed_on: bool,
}

/// A module declared in a module.
pub(crate) struct Child<'a> {
    pub item: &'a syn::ItemMod,
    /// Only there when tests are built.
    pub test: bool,
}

/// What one module names.
#[derive(Debug, Default)]
pub(crate) struct Names {
    /// What it defines itself, but for modules.
    pub items: BTreeSet<String>,
    pub imports: Vec<Import>,
    /// Modules and enums all of whose names it imports.
    pub globs: Vec<Vec<String>>,
    /// Paths in its code.
    pub paths: BTreeSet<Vec<String>>,
}

/// Reads the items of one module; the modules in it are given back unread.
pub(crate) fn read(items: &[Item]) -> (Names, Vec<Child<'_>>) {
    let mut reader = Reader(Names::default());
    let mut children = Vec::new();
    for item in items {
        if let Item::Mod(item) = item {
            children.push(Child { item, test: only_in_tests(&item.attrs) });
            continue;
        }
        if let Some(name) = name_of(item) {
            reader.0.items.insert(name);
        }
        reader.visit_item(item);
    }
    (reader.0, children)
}

/// The name that an item defines in its module.
fn name_of(item: &Item) -> Option<String> {
    let ident = match item {
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        Item::Macro(item) => item.ident.as_ref()?,
        Item::Static(item) => &item.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::TraitAlias(item) => &item.ident,
        Item::Type(item) => &item.ident,
        Item::Union(item) => &item.ident,
        _ => return None,
    };
    Some(ident.to_string())
}

struct Reader(Names);

impl Reader {
    fn import(&mut self, item: &ItemUse) {
        let handed_on = !matches!(item.vis, Visibility::Inherited);
        let path = item.leading_colon.as_ref().map(|_| String::new());
        self.tree(&mut Vec::from_iter(path), &item.tree, handed_on);
    }

    fn tree(&mut self, path: &mut Vec<String>, tree: &UseTree, handed_on: bool) {
        let leaf = |path: &[String], ident: &syn::Ident| match ident.to_string() {
            // `use a::b::{self}` imports `b`.
            name if name == "self" && !path.is_empty() => path.to_vec(),
            name => [path, &[name]].concat(),
        };
        match tree {
            UseTree::Path(tree) => {
                path.push(tree.ident.to_string());
                self.tree(path, &tree.tree, handed_on);
                path.pop();
            }
            UseTree::Name(tree) => {
                let path = leaf(path, &tree.ident);
                self.0.imports.push(Import { name: path.last().cloned(), path, handed_on });
            }
            UseTree::Rename(tree) => {
                let name = Some(tree.rename.to_string()).filter(|name| name != "_");
                self.0.imports.push(Import { name, path: leaf(path, &tree.ident), handed_on });
            }
            UseTree::Glob(_) => self.0.globs.push(path.clone()),
            UseTree::Group(group) => {
                for tree in &group.items {
                    self.tree(path, tree, handed_on);
                }
            }
        }
    }

    /// Paths in the text of a macro, which is only tokens: names joined by `::`, and single names that look like types.
    fn tokens(&mut self, tokens: TokenStream) {
        let mut tokens = tokens.into_iter().peekable();
        let mut path: Vec<String> = Vec::new();
        let mut colons = 0;
        while let Some(token) = tokens.next() {
            match token {
                TokenTree::Ident(ident) => {
                    if colons != 2 {
                        self.end(&mut path);
                    }
                    path.push(ident.to_string());
                    colons = 0;
                    continue;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' && !path.is_empty() => {
                    colons += 1;
                    continue;
                }
                TokenTree::Punct(punct) if punct.as_char() == '$' => {
                    self.end(&mut path);
                    // `$crate::name` is a path of this crate; `$name` is no name at all.
                    if !matches!(tokens.peek(), Some(TokenTree::Ident(ident)) if ident == DOLLAR_CRATE) {
                        tokens.next();
                    }
                }
                TokenTree::Punct(punct) if punct.as_char() == '.' => {
                    self.end(&mut path);
                    // A field or a method.
                    if matches!(tokens.peek(), Some(TokenTree::Ident(_))) {
                        tokens.next();
                    }
                }
                TokenTree::Group(group) => {
                    self.end(&mut path);
                    self.tokens(group.stream());
                }
                TokenTree::Punct(_) | TokenTree::Literal(_) => self.end(&mut path),
            }
            colons = 0;
        }
        self.end(&mut path);
    }

    fn end(&mut self, path: &mut Vec<String>) {
        let path = std::mem::take(path);
        let type_like = |name: &String| name.starts_with(char::is_uppercase);
        if path.len() > 1 || path.first().is_some_and(type_like) {
            self.0.paths.insert(path);
        }
    }
}

impl<'ast> Visit<'ast> for Reader {
    fn visit_item(&mut self, item: &'ast Item) {
        if !only_in_tests(attributes(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        if !only_in_tests(&item.attrs) {
            visit::visit_impl_item_fn(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        self.import(item);
    }

    /// Modules inside functions are not followed.
    fn visit_item_mod(&mut self, _: &'ast syn::ItemMod) {}

    fn visit_attribute(&mut self, _: &'ast Attribute) {}

    fn visit_vis_restricted(&mut self, _: &'ast syn::VisRestricted) {}

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let leading = path.leading_colon.as_ref().map(|_| String::new());
        let segments = path.segments.iter().map(|segment| segment.ident.to_string());
        self.0.paths.insert(leading.into_iter().chain(segments).collect());
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, item: &'ast syn::Macro) {
        self.visit_path(&item.path);
        self.tokens(item.tokens.clone());
    }
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

/// Whether something with these attributes is there in tests alone.
pub(crate) fn only_in_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("test")
            || attribute.path().is_ident("cfg")
                && attribute.parse_args::<Meta>().is_ok_and(|predicate| needs_test(&predicate))
    })
}

/// Whether a predicate of `cfg` cannot hold without `test`.
fn needs_test(predicate: &Meta) -> bool {
    let parts = |list: &syn::MetaList| {
        let parts = list.parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated);
        parts.map(Vec::from_iter).unwrap_or_default()
    };
    match predicate {
        Meta::Path(path) => path.is_ident("test"),
        Meta::List(list) if list.path.is_ident("all") => parts(list).iter().any(needs_test),
        Meta::List(list) if list.path.is_ident("any") => {
            let parts = parts(list);
            !parts.is_empty() && parts.iter().all(needs_test)
        }
        _ => false,
    }
}
