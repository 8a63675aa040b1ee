//! A worker's relay buffers.
//!
//! An idle connection holds none: it takes one when there is something to read and gives it
//! back when that is sent. Two sizes serve all traffic: a small one for one record, a large
//! one for a turn of bulk.

use std::{
    cell::{Cell, RefCell},
    ops::{Deref, DerefMut},
    rc::Rc,
};

/// Which of the two sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BufferSize {
    /// [`BufferSize::SMALL_BYTES`]: one record of any legal size, or four of 4 KiB.
    Small,
    /// [`BufferSize::LARGE_BYTES`]: eight full records.
    Large,
}

impl BufferSize {
    /// Bytes of a small buffer.
    pub const SMALL_BYTES: usize = 20 * 1024;
    /// Bytes of a large buffer: eight full records with their headers and tags, and the start
    /// of another.
    pub const LARGE_BYTES: usize = 8 * (16 * 1024 + 64) + 256;

    /// Bytes of a buffer of this size.
    pub const fn bytes(self) -> usize {
        match self {
            Self::Small => Self::SMALL_BYTES,
            Self::Large => Self::LARGE_BYTES,
        }
    }
}

/// How much memory a [`Pool`] may hold.
#[derive(Debug, Clone, Copy)]
pub struct PoolLimits {
    /// Large buffers lent at a time; beyond it small ones are given. It bounds what stalled
    /// readers can pin: 512 are 68 MB a worker.
    pub large_lent: usize,
    /// Returned buffers of each size that are kept for the next taker, the rest is freed.
    pub kept: usize,
}

impl Default for PoolLimits {
    fn default() -> Self {
        Self { large_lent: 512, kept: 64 }
    }
}

/// The buffers of one worker.
#[derive(Debug)]
pub struct Pool {
    limits: PoolLimits,
    small: RefCell<Vec<Box<[u8]>>>,
    large: RefCell<Vec<Box<[u8]>>>,
    large_lent: Cell<usize>,
}

impl Pool {
    /// An empty pool.
    pub fn new(limits: PoolLimits) -> Rc<Self> {
        Rc::new(Self {
            limits,
            small: RefCell::default(),
            large: RefCell::default(),
            large_lent: Cell::new(0),
        })
    }

    /// Lends a buffer of the wanted size, or a small one while too many large ones are lent.
    pub fn take(self: &Rc<Self>, wanted: BufferSize) -> Buffer {
        let size = match wanted {
            BufferSize::Large if self.large_lent.get() < self.limits.large_lent => {
                self.large_lent.set(self.large_lent.get() + 1);
                BufferSize::Large
            }
            _ => BufferSize::Small,
        };
        let bytes = self
            .shelf(size)
            .borrow_mut()
            .pop()
            .unwrap_or_else(|| vec![0; size.bytes()].into_boxed_slice());
        Buffer { bytes, size, pool: self.clone() }
    }

    fn shelf(&self, size: BufferSize) -> &RefCell<Vec<Box<[u8]>>> {
        match size {
            BufferSize::Small => &self.small,
            BufferSize::Large => &self.large,
        }
    }

    /// Large buffers that are lent now.
    pub fn large_lent(&self) -> usize {
        self.large_lent.get()
    }
}

/// A lent buffer. Its contents are what an earlier holder left: write before you read.
#[derive(Debug)]
pub struct Buffer {
    bytes: Box<[u8]>,
    size: BufferSize,
    pool: Rc<Pool>,
}

impl Buffer {
    /// Its size.
    pub fn size(&self) -> BufferSize {
        self.size
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if self.size == BufferSize::Large {
            self.pool.large_lent.set(self.pool.large_lent.get() - 1);
        }
        let mut shelf = self.pool.shelf(self.size).borrow_mut();
        if shelf.len() < self.pool.limits.kept {
            shelf.push(std::mem::take(&mut self.bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_returned_buffer_is_lent_again() {
        let pool = Pool::new(PoolLimits::default());
        let first = pool.take(BufferSize::Small);
        let address = first.as_ptr();
        drop(first);
        assert_eq!(pool.take(BufferSize::Small).as_ptr(), address);
    }

    #[test]
    fn stalled_readers_cannot_pin_more_large_buffers_than_the_limit() {
        let pool = Pool::new(PoolLimits { large_lent: 2, kept: 2 });
        let held: Vec<_> = (0..5).map(|_| pool.take(BufferSize::Large)).collect();
        let large = held.iter().filter(|b| b.size() == BufferSize::Large).count();
        assert_eq!((large, pool.large_lent()), (2, 2));
        drop(held);
        assert_eq!(pool.large_lent(), 0);
        assert_eq!(pool.take(BufferSize::Large).size(), BufferSize::Large);
    }

    #[test]
    fn no_more_than_the_limit_is_kept_for_later() {
        let pool = Pool::new(PoolLimits { large_lent: 8, kept: 1 });
        drop([pool.take(BufferSize::Small), pool.take(BufferSize::Small)]);
        assert_eq!(pool.small.borrow().len(), 1);
    }
}
