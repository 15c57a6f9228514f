// SPDX-License-Identifier: GPL-2.0

//! Registered filesystem types: `struct file_system_type`.
//!
//! C header: [`include/linux/fs.h`](srctree/include/linux/fs.h).

use super::{
    inode_cache::InodeCache,
    FileSystem,
    SuperBlock, //
};
use crate::bindings;
use core::marker::PhantomData;
use kernel::{
    container_of,
    prelude::*,
    types::Opaque, //
};

/// A filesystem type, registered until this is dropped.
///
/// # Examples
///
/// A filesystem with an empty directory. `mount -t example none DIR` works while `registration`
/// exists.
///
/// ```
/// use crate::vfs::*;
/// use core::convert::Infallible;
/// use kernel::{prelude::*, seq_file::SeqFile, sync::aref::ARef, ModuleMetadata};
///
/// struct ExampleFs;
///
/// impl FileSystem for ExampleFs {
///     const NAME: &'static CStr = c"example";
///     const MAGIC: usize = u32::from_be_bytes(*b"exam") as usize;
///     const FS_FLAGS: u32 = 0;
///
///     type TypeData = ();
///     type SbInfo = ();
///     type InodeInfo = Dquots;
/// }
///
/// impl FsContextOperations for ExampleFs {
///     const PARAMETERS: &'static [FsParameterSpec] = &[FsParameterSpec::END];
///
///     type Options = ();
///
///     fn init_fs_context(_context: &FsContext<'_>) {}
///
///     fn parse_param(_: &mut (), _context: &FsContext<'_>, _: &FsParameter<'_>) -> Result {
///         Ok(())
///     }
///
///     fn new_sb_info(_options: &()) -> Result {
///         Ok(())
///     }
///
///     fn fill_super(sb: &NewSuperBlock<'_, Self>, _options: &()) -> Result<ARef<Inode<Self>>> {
///         sb.set_granularity();
///         let root = NewInode::new(sb, 1)?;
///         root.init_owner(IdMap::nop(), None, 0o40555);
///         root.init_timestamps();
///         root.init_dir()
///             .set_iops(InodeOps::new::<Directory>())
///             .set_fops(FileOps::new::<Directory>());
///         Ok(root.into_aref())
///     }
///
///     fn reconfigure(_sb: &SuperBlock<Self>, _context: &FsContext<'_>, _options: &()) -> Result {
///         Ok(())
///     }
/// }
///
/// impl SuperOperations for ExampleFs {
///     fn show_options(_sb: &SuperBlock<Self>, _line: &SeqFile) {}
///
///     fn statfs(_sb: &SuperBlock<Self>) -> StatFs {
///         StatFs { blocks: (None, 0), inodes: (None, 1) }
///     }
///
///     fn freeze_fs(_sb: &SuperBlock<Self>) -> Result {
///         Ok(())
///     }
///
///     fn alloc_inode(_sb: &SuperBlock<Self>) -> impl PinInit<Dquots> {
///         Ok::<_, Infallible>(Dquots::new())
///     }
///
///     fn evict_inode(_inode: &Inode<Self>) {}
///
///     fn dquots(inode: &Inode<Self>) -> &Dquots {
///         inode.info()
///     }
/// }
///
/// struct Directory;
///
/// #[vtable]
/// impl InodeOperations<ExampleFs> for Directory {
///     fn lookup(
///         _dir: &Inode<ExampleFs>,
///         dentry: &Dentry<ExampleFs>,
///     ) -> Result<Option<ARef<Dentry<ExampleFs>>>> {
///         dentry.splice_alias(None)
///     }
/// }
///
/// #[vtable]
/// impl FileOperations<ExampleFs> for Directory {
///     fn iterate_shared(file: &File<ExampleFs>, mut ctx: DirContext<'_>) -> Result {
///         ctx.emit_dots(file);
///         Ok(())
///     }
/// }
///
/// let module = &<crate::Module as ModuleMetadata>::THIS_MODULE;
/// let registration = Registration::<ExampleFs>::new(module, Ok(()));
/// let registration = KBox::pin_init(registration, GFP_KERNEL)?;
/// # drop(registration);
/// # Ok::<(), Error>(())
/// ```
///
/// # Invariants
///
/// `fs_type` is registered.
#[pin_data(PinnedDrop)]
pub struct Registration<T: FileSystem> {
    #[pin]
    pub(super) fs_type: Opaque<bindings::file_system_type>,
    #[pin]
    pub(super) data: T::TypeData,
    /// Goes when there are no superblocks any more.
    pub(super) inode_cache: InodeCache<T>,
    pub(super) _type: PhantomData<T>,
}

// SAFETY: Registering and unregistering may happen on any thread.
unsafe impl<T: FileSystem> Send for Registration<T> {}
// SAFETY: What `&self` gives access to is `Sync`.
unsafe impl<T: FileSystem> Sync for Registration<T> {}

impl<T: FileSystem> Registration<T> {
    /// Returns the registration of a superblock's type.
    pub(super) fn of(sb: &SuperBlock<T>) -> &Self {
        // SAFETY: `s_type` is the `fs_type` of a `Registration<T>`, which lives as long as
        // superblocks of it.
        unsafe {
            let fs_type: *mut Opaque<bindings::file_system_type> = (*sb.as_raw()).s_type.cast();
            &*container_of!(fs_type, Self, fs_type)
        }
    }
}

impl<T: FileSystem> SuperBlock<T> {
    /// Returns what is kept with the filesystem type.
    pub fn type_data(&self) -> &T::TypeData {
        &Registration::of(self).data
    }
}

#[pinned_drop]
impl<T: FileSystem> PinnedDrop for Registration<T> {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: Registered by the type invariant. The module's reference count keeps it loaded
        // while a superblock exists, so there is none.
        unsafe { bindings::unregister_filesystem(self.fs_type.get()) };
    }
}
