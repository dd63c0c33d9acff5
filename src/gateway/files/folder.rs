//! What a folder may contain, and how it is read: all of it or nothing.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tokio::fs;

/// Why a folder cannot be served. All are the operator's to remedy.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// Something cannot be read.
    #[error("{path}: cannot be read; check that it exists and that this process may read it", path = .path.display())]
    Unreadable {
        /// What cannot be read.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A link leads out of the folder, where nobody meant to publish anything.
    #[error(
        "{link}: is a link to {target}, which lies outside of the folder; copy it into the folder, or remove the link",
        link = .link.display(),
        target = .target.display()
    )]
    Escape {
        /// The link.
        link: PathBuf,
        /// Where it leads.
        target: PathBuf,
    },
    /// A link leads to a folder that contains it.
    #[error("{link}: is a link to a folder that contains it; remove the link", link = .0.display())]
    Circle(PathBuf),
    /// A name cannot be part of a URL path.
    #[error("{path}: its name is not UTF-8; rename it", path = .0.display())]
    Name(PathBuf),
    /// The folder is too large to be kept in memory.
    #[error(
        "{folder}: holds {total} bytes, the largest file is {largest}, and files_max_bytes is {limit}; raise \
         files_max_bytes, or serve the folder by an upstream",
        folder = .folder.display()
    )]
    TooLarge {
        /// The folder.
        folder: PathBuf,
        /// The size of all its files, in bytes.
        total: u64,
        /// The path of its largest file.
        largest: String,
        /// The limit, in bytes.
        limit: u64,
    },
}

/// Names the state of a folder: it differs whenever a file was added, removed, renamed, replaced or written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint([u8; 32]);

/// The state of `folder`, judged without reading a file.
///
/// # Errors
/// As [`FileTree::load`](super::FileTree::load), but for its size.
pub async fn fingerprint(folder: &Path) -> Result<Fingerprint, FilesError> {
    survey(folder).await.map(|found| fingerprint_of(&found))
}

/// All files of a folder.
pub(super) struct Contents {
    /// By their path below the folder, with a slash in front.
    pub(super) files: BTreeMap<String, Content>,
    /// The state of the folder before the first file was read.
    pub(super) fingerprint: Fingerprint,
}

/// One file of a folder.
pub(super) struct Content {
    pub(super) bytes: Bytes,
    pub(super) modified: SystemTime,
}

/// Reads all files of `folder`.
pub(super) async fn read(folder: &Path, max_bytes: u64) -> Result<Contents, FilesError> {
    let found = survey(folder).await?;
    let fingerprint = fingerprint_of(&found);
    check_size(folder, found.iter().map(|(name, entry)| (name, entry.metadata.len())), max_bytes)?;
    let mut files = BTreeMap::new();
    for (name, entry) in found {
        let bytes = fs::read(&entry.path).await.map_err(unreadable(&entry.path))?.into();
        let modified = entry.metadata.modified().map_err(unreadable(&entry.path))?;
        files.insert(name, Content { bytes, modified });
    }
    // Files may have grown since they were counted.
    check_size(folder, files.iter().map(|(name, file)| (name, file.bytes.len() as u64)), max_bytes)?;
    Ok(Contents { files, fingerprint })
}

fn check_size<'a>(
    folder: &Path,
    sizes: impl Iterator<Item = (&'a String, u64)> + Clone,
    limit: u64,
) -> Result<(), FilesError> {
    let total = sizes.clone().map(|(_, size)| size).sum();
    if total <= limit {
        return Ok(());
    }
    let largest = sizes.max_by_key(|(_, size)| *size).map(|(name, _)| name.clone()).unwrap_or_default();
    Err(FilesError::TooLarge { folder: folder.to_owned(), total, largest, limit })
}

/// A file that was found but not yet read.
struct Entry {
    /// Where it really lies, free of links.
    path: PathBuf,
    metadata: Metadata,
}

/// A folder that is still to be looked through.
struct Pending {
    /// Its path below the root, with a slash in front; empty for the root.
    name: String,
    /// Where it and the folders above it really lie, itself last.
    lineage: Vec<PathBuf>,
}

/// Finds every file of `folder`, in the order of their names.
async fn survey(folder: &Path) -> Result<BTreeMap<String, Entry>, FilesError> {
    let root = fs::canonicalize(folder).await.map_err(unreadable(folder))?;
    let mut files = BTreeMap::new();
    let mut pending = vec![Pending { name: String::new(), lineage: vec![root.clone()] }];
    while let Some(Pending { name, lineage }) = pending.pop() {
        let Some(here) = lineage.last() else { continue };
        let mut entries = fs::read_dir(here).await.map_err(unreadable(here))?;
        while let Some(entry) = entries.next_entry().await.map_err(unreadable(here))? {
            if is_hidden(&entry.file_name()) {
                continue;
            }
            let found = entry.path();
            let path = fs::canonicalize(&found).await.map_err(unreadable(&found))?;
            if !path.starts_with(&root) {
                return Err(FilesError::Escape { link: found, target: path });
            }
            let Ok(own_name) = entry.file_name().into_string() else { return Err(FilesError::Name(found)) };
            let name = format!("{name}/{own_name}");
            let metadata = fs::metadata(&path).await.map_err(unreadable(&path))?;
            if metadata.is_file() {
                files.insert(name, Entry { path, metadata });
            } else if metadata.is_dir() {
                if lineage.contains(&path) {
                    return Err(FilesError::Circle(found));
                }
                let lineage = lineage.iter().cloned().chain([path]).collect();
                pending.push(Pending { name, lineage });
            }
        }
    }
    Ok(files)
}

/// Names that begin with a dot are seldom meant for the world (`.git`, `.env`); RFC 8615 names the one that is.
fn is_hidden(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b".") && name != ".well-known"
}

fn fingerprint_of(found: &BTreeMap<String, Entry>) -> Fingerprint {
    let mut hash = Sha256::new();
    for (name, Entry { path, metadata }) in found {
        for text in [name.as_bytes(), path.as_os_str().as_encoded_bytes()] {
            hash.update((text.len() as u64).to_be_bytes());
            hash.update(text);
        }
        // Reproducible builds give every file the same time of modification, which leaves what cannot be set at will: the
        // inode and the time of its last change.
        for number in [metadata.len(), metadata.ino()] {
            hash.update(number.to_be_bytes());
        }
        for time in [metadata.mtime(), metadata.mtime_nsec(), metadata.ctime(), metadata.ctime_nsec()] {
            hash.update(time.to_be_bytes());
        }
    }
    Fingerprint(hash.finalize().into())
}

fn unreadable(path: &Path) -> impl FnOnce(io::Error) -> FilesError {
    let path = path.to_owned();
    |source| FilesError::Unreadable { path, source }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;

    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, text) in files {
            write(&folder, name, text);
        }
        folder
    }

    fn write(folder: &tempfile::TempDir, name: &str, text: &str) {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
        std::fs::write(path, text).expect("a file");
    }

    async fn names(folder: &tempfile::TempDir) -> Result<Vec<String>, FilesError> {
        read(folder.path(), 1000).await.map(|contents| contents.files.into_keys().collect())
    }

    async fn refusal(folder: &tempfile::TempDir) -> FilesError {
        names(folder).await.expect_err("a refusal")
    }

    #[tokio::test]
    async fn hidden_names_are_left_out_but_for_the_well_known_one() {
        let folder = folder(&[
            ("index.html", ""),
            (".env", "s3cret"),
            (".git/config", ""),
            ("a/.htpasswd", ""),
            ("a/b/c.js", ""),
            (".well-known/security.txt", ""),
            (".well-known/.hidden", ""),
        ]);
        let found = names(&folder).await.expect("reads");
        assert_eq!(found, ["/.well-known/security.txt", "/a/b/c.js", "/index.html"]);
    }

    #[tokio::test]
    async fn links_may_lead_anywhere_within_the_folder() {
        // Kubernetes mounts a ConfigMap like this.
        let folder = folder(&[("..2026/index.html", "v1"), ("..2026/sub/a.js", "a")]);
        symlink("..2026", folder.path().join("..data")).expect("a link");
        symlink("..data/index.html", folder.path().join("index.html")).expect("a link");
        symlink("..data/sub", folder.path().join("sub")).expect("a link");
        assert_eq!(names(&folder).await.expect("reads"), ["/index.html", "/sub/a.js"]);

        let before = fingerprint(folder.path()).await.expect("reads");
        write(&folder, "..2027/index.html", "v2");
        write(&folder, "..2027/sub/a.js", "b");
        symlink("..2027", folder.path().join("..new")).expect("a link");
        std::fs::rename(folder.path().join("..new"), folder.path().join("..data")).expect("renames");
        assert_ne!(fingerprint(folder.path()).await.expect("reads"), before);
    }

    #[tokio::test]
    async fn links_that_lead_out_of_the_folder_are_refused() {
        let outside = folder(&[("secret", "s3cret")]);
        for target in [outside.path().join("secret"), outside.path().to_owned(), "..".into(), "/etc/hostname".into()] {
            let folder = folder(&[("index.html", "")]);
            symlink(&target, folder.path().join("out")).expect("a link");
            let problem = refusal(&folder).await;
            assert!(matches!(&problem, FilesError::Escape { .. }), "{target:?}: {problem}");
            assert!(problem.to_string().contains("out: is a link to /"), "{problem}");
        }
        // A folder whose name begins with the root's is not below it.
        let parent = folder(&[("dist/index.html", ""), ("dist-secret/a", "")]);
        symlink("../dist-secret/a", parent.path().join("dist/a")).expect("a link");
        let problem = read(&parent.path().join("dist"), 1000).await.err().expect("a refusal");
        assert!(matches!(problem, FilesError::Escape { .. }), "{problem}");
    }

    #[tokio::test]
    async fn links_in_a_circle_are_refused() {
        let direct = folder(&[("a/x", "")]);
        symlink("..", direct.path().join("a/up")).expect("a link");
        assert!(matches!(refusal(&direct).await, FilesError::Circle(_)));
        let crosswise = folder(&[("a/x", ""), ("b/x", "")]);
        symlink("../b", crosswise.path().join("a/to-b")).expect("a link");
        symlink("../a", crosswise.path().join("b/to-a")).expect("a link");
        assert!(matches!(refusal(&crosswise).await, FilesError::Circle(_)));
    }

    #[tokio::test]
    async fn what_cannot_be_read_or_named_is_a_problem_rather_than_a_gap() {
        let dangling = folder(&[("index.html", "")]);
        symlink("nowhere", dangling.path().join("a.js")).expect("a link");
        assert!(matches!(refusal(&dangling).await, FilesError::Unreadable { .. }));
        let strange = folder(&[]);
        std::fs::write(strange.path().join(OsStr::from_bytes(b"\xff.js")), "").expect("a file");
        assert!(matches!(refusal(&strange).await, FilesError::Name(_)));
        let missing = read(&strange.path().join("dist"), 1000).await.err().expect("a refusal");
        assert!(
            missing
                .to_string()
                .ends_with("dist: cannot be read; check that it exists and that this process may read it")
        );
        let file = read(&dangling.path().join("index.html"), 1000).await.err().expect("a refusal");
        assert!(matches!(file, FilesError::Unreadable { .. }), "{file}");
    }

    #[tokio::test]
    async fn a_folder_that_is_too_large_is_refused_with_the_finding_and_the_remedy() {
        let folder = folder(&[("index.html", "12345"), ("video/intro.mp4", "1234567890")]);
        assert!(read(folder.path(), 15).await.is_ok());
        let problem = read(folder.path(), 14).await.err().expect("a refusal").to_string();
        let finding = "holds 15 bytes, the largest file is /video/intro.mp4, and files_max_bytes is 14; raise \
                       files_max_bytes, or serve the folder by an upstream";
        assert!(problem.ends_with(finding), "{problem}");
    }

    #[tokio::test]
    async fn the_fingerprint_tells_every_change_even_one_that_keeps_size_and_time() {
        let folder = folder(&[("index.html", "v1"), ("a/app.js", "1")]);
        let now = async || fingerprint(folder.path()).await.expect("reads");
        let mut seen = vec![now().await];
        assert_eq!(now().await, seen[0]);

        let (old, new) = (folder.path().join("index.html"), folder.path().join(".next"));
        write(&folder, ".next", "v2");
        let modified = std::fs::metadata(&old).and_then(|it| it.modified()).expect("a time");
        std::fs::File::options().write(true).open(&new).and_then(|it| it.set_modified(modified)).expect("sets");
        std::fs::rename(&new, &old).expect("renames");
        seen.push(now().await);
        std::fs::remove_file(&old).expect("removes");
        seen.push(now().await);
        write(&folder, "a/app.js", "longer");
        seen.push(now().await);
        std::fs::rename(folder.path().join("a/app.js"), folder.path().join("a/apq.js")).expect("renames");
        seen.push(now().await);
        write(&folder, "new.js", "");
        seen.push(now().await);
        for (index, fingerprint) in seen.iter().enumerate() {
            assert!(!seen[..index].contains(fingerprint), "state {index} was seen before");
        }
    }
}
