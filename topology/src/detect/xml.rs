//! The part of XML that hwloc writes: elements with attributes and the usual entities. Text between elements is passed over.

use std::collections::BTreeMap;

/// Deepest nesting: hwloc's trees have some ten levels, and PCI bridges below them.
const DEPTH_LIMIT: usize = 64;

/// An element, with what is in it.
#[derive(Debug, Default)]
pub(super) struct Element {
    pub name: String,
    pub attributes: BTreeMap<String, String>,
    pub children: Vec<Element>,
}

impl Element {
    pub(super) fn get(&self, attribute: &str) -> Option<&str> {
        self.attributes.get(attribute).map(String::as_str)
    }
}

/// The outermost element of a text, or what is wrong and in which line.
pub(super) fn parse(text: &str) -> Result<Element, String> {
    let mut rest = text;
    parse_document(&mut rest).map_err(|wrong| {
        let line = text[..text.len() - rest.len()].lines().count();
        format!("line {line}: {wrong}")
    })
}

/// `rest` is left where the fault is.
fn parse_document(rest: &mut &str) -> Result<Element, &'static str> {
    let mut open: Vec<Element> = Vec::new();
    loop {
        let begin = rest.find('<').ok_or("the file ends before its outermost element does")?;
        *rest = &rest[begin..];
        if let Some(after) = declaration(rest)? {
            *rest = after;
            continue;
        }
        let closed = if let Some(after) = rest.strip_prefix("</") {
            let (name, after) = after.split_once('>').ok_or("an element is cut off")?;
            let element = open.pop().filter(|element| element.name == name.trim_end());
            *rest = after;
            element.ok_or("an element is closed that is not open")?
        } else {
            let (element, is_empty, after) = tag(&rest[1..])?;
            *rest = after;
            if !is_empty {
                if open.len() == DEPTH_LIMIT {
                    return Err("elements are nested too deep");
                }
                open.push(element);
                continue;
            }
            element
        };
        match open.last_mut() {
            Some(parent) => parent.children.push(closed),
            None => return Ok(closed),
        }
    }
}

/// What is behind a declaration, a comment or the document's type, if `text` begins with one.
fn declaration(text: &str) -> Result<Option<&str>, &'static str> {
    for (begin, end) in [("<?", "?>"), ("<!--", "-->"), ("<!", ">")] {
        if let Some(inside) = text.strip_prefix(begin) {
            let (inside, after) = inside.split_once(end).ok_or("a declaration is cut off")?;
            let defines = begin == "<!" && inside.contains('[');
            return if defines { Err("definitions in the file are not read") } else { Ok(Some(after)) };
        }
    }
    Ok(None)
}

/// An element's opening tag behind its `<`: the element, whether that is all of it, and what follows.
fn tag(text: &str) -> Result<(Element, bool, &str), &'static str> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | ':' | '.');
    let cut = |text: &str| text.find(|c| !is_name(c)).unwrap_or(text.len());
    let (name, mut rest) = text.split_at(cut(text));
    if name.is_empty() {
        return Err("an element has no name");
    }
    let mut element = Element { name: name.into(), ..Element::default() };
    loop {
        rest = rest.trim_start();
        if let Some(after) = rest.strip_prefix("/>") {
            return Ok((element, true, after));
        }
        if let Some(after) = rest.strip_prefix('>') {
            return Ok((element, false, after));
        }
        let (name, after) = rest.split_at(cut(rest));
        let after = after.trim_start().strip_prefix('=').ok_or("an attribute has no value")?.trim_start();
        let quote =
            after.chars().next().filter(|c| matches!(c, '"' | '\'')).ok_or("a value has no quotes")?;
        let (value, after) = after[1..].split_once(quote).ok_or("a value is cut off")?;
        if name.is_empty() || element.attributes.insert(name.into(), unescape(value)).is_some() {
            return Err("an attribute has no name, or is there twice");
        }
        rest = after;
    }
}

/// The text that entities stand for; what is none stays as it is.
fn unescape(value: &str) -> String {
    let plain =
        value.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&apos;", "'");
    plain.replace("&#9;", "\t").replace("&#10;", "\n").replace("&#13;", "\r").replace("&amp;", "&")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn elements_attributes_and_what_is_passed_over() {
        let text = "<?xml version=\"1.0\"?><!DOCTYPE a SYSTEM \"a.dtd\"><!-- <b> --><a x = '1' y=\"&lt;&amp;lt;\">text<b/><b k=\"v\">\n</b ></a>";
        let root = parse(text).unwrap();
        assert_eq!((root.name.as_str(), root.get("x"), root.get("y")), ("a", Some("1"), Some("<&lt;")));
        assert_eq!(root.children.len(), 2);
        assert_eq!(root.children[1].get("k"), Some("v"));
    }

    #[test]
    fn faults_are_named_with_their_line() {
        let deep = "<a>".repeat(DEPTH_LIMIT + 1);
        for (text, words) in [
            ("", "ends"),
            ("<a>", "ends"),
            ("<a>\n</b>", "line 2: an element is closed"),
            ("<a x></a>", "no value"),
            ("<a x=1></a>", "quotes"),
            ("<a x=\"1></a>", "cut off"),
            ("<a x=\"1\" x=\"2\"/>", "twice"),
            ("<!DOCTYPE a [<!ENTITY b \"c\">]><a/>", "definitions"),
            ("< a/>", "no name"),
            (&deep, "too deep"),
        ] {
            let fault = parse(text).unwrap_err();
            assert!(fault.contains(words), "{text}: {fault}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[<>/=\"'ab!? \\-\\[é&;\n]{0,60}") {
            let _ = parse(&text);
        }
    }
}
