//! Cyclic redundancy checks, for the CRC operations and the DIF guard tag.
//!
//! One engine serves every polynomial of up to 64 bits. It keeps the register
//! reflected: bit 0 holds the coefficient of the highest power, and of each
//! byte bit 0 counts first, as in iSCSI's and NVMe's checks. Where bit 7 counts
//! first, as in the T10 guard, the bits of each byte are turned round on the
//! way in, and those of the register on the way out.

/// Which bit of a byte counts first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BitOrder {
    /// Bit 0.
    Reflected,
    /// Bit 7.
    Normal,
}

/// CRC32C: 0x11EDC6F41, here reflected [Appendix A].
pub(super) static CRC32: Polynomial = Polynomial::new(0x82f6_3b78);
/// CRC-64 of NVM Express: 0x1AD93D23594C93659, here reflected [Appendix A].
pub(super) static CRC64: Polynomial = Polynomial::new(0x9a6c_9329_ac4b_c9b5);
/// T10 DIF: 0x18BB7, here reflected [Appendix B].
pub(super) static T10: Polynomial = Polynomial::new(0xedd1);

/// A generator polynomial, with what is computed from it in advance.
pub(super) struct Polynomial {
    /// `tables[n]` has the effect of each byte followed by `n` zero bytes, so
    /// that eight bytes take eight independent look-ups.
    tables: [Table; 8],
}

struct Table([u64; 256]);

impl Table {
    fn at(&self, byte: u8) -> u64 {
        self.0.get(usize::from(byte)).copied().unwrap_or_default()
    }
}

impl Polynomial {
    /// `reflected`: the coefficients without the highest, bit 0 standing for
    /// the second highest.
    #[expect(
        clippy::indexing_slicing,
        reason = "runs at compile time only, where an index out of bounds is an error"
    )]
    const fn new(reflected: u64) -> Self {
        let mut tables = [const { Table([0; 256]) }; 8];
        let mut byte = 0;
        while byte < 256 {
            let mut register = byte as u64;
            let mut table = 0;
            while table < 8 {
                let mut bit = 0;
                while bit < 8 {
                    register = (register >> 1) ^ (reflected * (register & 1));
                    bit += 1;
                }
                tables[table].0[byte] = register;
                table += 1;
            }
            byte += 1;
        }
        Self { tables }
    }

    /// The register after `data`.
    pub(super) fn update(&self, mut register: u64, data: &[u8], order: BitOrder) -> u64 {
        let [t0, t1, t2, t3, t4, t5, t6, t7] = &self.tables;
        let (words, rest) = data.as_chunks();
        for word in words {
            let word = match order {
                BitOrder::Reflected => u64::from_le_bytes(*word),
                BitOrder::Normal => u64::from_be_bytes(*word).reverse_bits(),
            };
            let [a, b, c, d, e, f, g, h] = (register ^ word).to_le_bytes();
            register = t7.at(a)
                ^ t6.at(b)
                ^ t5.at(c)
                ^ t4.at(d)
                ^ t3.at(e)
                ^ t2.at(f)
                ^ t1.at(g)
                ^ t0.at(h);
        }
        for byte in rest {
            let byte = match order {
                BitOrder::Reflected => *byte,
                BitOrder::Normal => byte.reverse_bits(),
            };
            let [low, ..] = register.to_le_bytes();
            register = (register >> 8) ^ t0.at(low ^ byte);
        }
        register
    }
}

#[cfg(test)]
mod tests {
    use super::{BitOrder, CRC32, CRC64, Polynomial, T10};

    const CHECK: &[u8] = b"123456789";

    /// The check values that the catalogues of CRC algorithms list, of
    /// CRC-32/ISCSI, CRC-64/NVME and CRC-16/T10-DIF.
    #[test]
    fn catalogued_check_values() {
        let reflected = BitOrder::Reflected;
        let crc32 = !CRC32.update(0xffff_ffff, CHECK, reflected) & 0xffff_ffff;
        assert_eq!(crc32, 0xe306_9283);
        assert_eq!(
            !CRC64.update(u64::MAX, CHECK, reflected),
            0xae8b_1486_0a79_9888
        );
        assert_eq!(
            T10.update(0, CHECK, BitOrder::Normal).reverse_bits() >> 48,
            0xd0db
        );
    }

    /// Polynomial division one bit at a time, as Appendix A describes it.
    fn bit_by_bit(reflected: u64, mut register: u64, data: &[u8], order: BitOrder) -> u64 {
        for byte in data {
            for bit in 0..8 {
                let shift = if order == BitOrder::Reflected {
                    bit
                } else {
                    7 - bit
                };
                let feedback = (register ^ u64::from(*byte) >> shift) & 1;
                register = (register >> 1) ^ (reflected * feedback);
            }
        }
        register
    }

    #[test]
    fn tables_agree_with_division_at_every_length() {
        let data: Vec<u8> = (0..40u8)
            .map(|index| index.wrapping_mul(151) ^ 0x5a)
            .collect();
        let polynomials: [(&Polynomial, u64); 3] = [
            (&CRC32, 0x82f6_3b78),
            (&CRC64, 0x9a6c_9329_ac4b_c9b5),
            (&T10, 0xedd1),
        ];
        for (polynomial, reflected) in polynomials {
            for order in [BitOrder::Reflected, BitOrder::Normal] {
                for length in 0..=data.len() {
                    let data = &data[..length];
                    assert_eq!(
                        polynomial.update(0x1234, data, order),
                        bit_by_bit(reflected, 0x1234, data, order),
                        "{reflected:#x} {order:?} {length}"
                    );
                }
            }
        }
    }
}
