//! Which files are read: those named, and in a folder, and the folders in it, all that end in .yaml, .yml or .json.

use std::collections::HashSet;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// A file's name and text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    /// As it is told to people.
    pub name: String,
    /// What it holds.
    pub bytes: Vec<u8>,
}

/// A path that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {cause}")]
pub struct Unreadable {
    path: String,
    cause: io::Error,
}

const ENDINGS: [&str; 3] = ["yaml", "yml", "json"];

/// The texts at these paths, in the order given, those of a folder by name; `-` is standard input. A file that is met twice is
/// read once.
///
/// # Errors
/// A path is not there, or cannot be read.
pub fn texts(paths: &[PathBuf]) -> Result<Vec<Text>, Unreadable> {
    let (mut files, mut met) = (Vec::new(), HashSet::new());
    for path in paths {
        let found = if path.as_os_str() == "-" { vec![path.clone()] } else { files_at(path)? };
        for file in found {
            if met.insert(file.clone()) {
                files.push(file);
            }
        }
    }
    files.iter().map(|file: &PathBuf| read(file)).collect()
}

fn read(file: &Path) -> Result<Text, Unreadable> {
    if file.as_os_str() == "-" {
        let mut bytes = Vec::new();
        let read = io::stdin().lock().read_to_end(&mut bytes);
        return read.map(|_| Text { name: "-".to_owned(), bytes }).map_err(|cause| unreadable(file, cause));
    }
    let bytes = fs::read(file).map_err(|cause| unreadable(file, cause))?;
    Ok(Text { name: file.display().to_string(), bytes })
}

fn files_at(path: &Path) -> Result<Vec<PathBuf>, Unreadable> {
    let kind = fs::metadata(path).map_err(|cause| unreadable(path, cause))?;
    if !kind.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let (mut files, mut todo) = (Vec::new(), vec![path.to_owned()]);
    while let Some(folder) = todo.pop() {
        let entries = fs::read_dir(&folder).map_err(|cause| unreadable(&folder, cause))?;
        for entry in entries {
            let entry = entry.map_err(|cause| unreadable(&folder, cause))?;
            let (found, hidden) = (entry.path(), entry.file_name().to_string_lossy().starts_with('.'));
            // A link to a folder may lead in a circle.
            let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            let ends = found.extension().and_then(|ending| ending.to_str());
            if is_folder && !hidden {
                todo.push(found);
            } else if !is_folder
                && !hidden
                && ends.is_some_and(|ending| ENDINGS.contains(&ending))
                && found.is_file()
            {
                files.push(found);
            }
        }
    }
    files.sort();
    Ok(files)
}

fn unreadable(path: &Path, cause: io::Error) -> Unreadable {
    Unreadable { path: path.display().to_string(), cause }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_read_with_all_in_it_by_name_and_each_file_once() {
        let folder = std::env::temp_dir().join(format!("sources-{}", std::process::id()));
        fs::create_dir_all(folder.join("b/.git")).unwrap();
        for file in ["z.yaml", "a.yml", "b/c.json", "b/README.md", "b/.git/x.yaml", ".hidden.yaml"] {
            fs::write(folder.join(file), file).unwrap();
        }
        let read = texts(&[folder.join("z.yaml"), folder.clone()]).unwrap();
        let names: Vec<String> =
            read.into_iter().map(|text| String::from_utf8(text.bytes).unwrap()).collect();
        assert_eq!(names, ["z.yaml", "a.yml", "b/c.json"]);
        let missing = texts(&[folder.join("missing")]).unwrap_err().to_string();
        assert!(missing.contains("missing") && missing.contains("No such file"), "{missing}");
        fs::remove_dir_all(&folder).unwrap();
    }
}
