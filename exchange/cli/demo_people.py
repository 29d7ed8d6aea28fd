"""The people of the demo's story. All of them are invented.

Rules:
1. Every name says in its own language that it is an example, so that nobody takes it for a person.
2. Every name is long and rare enough to be looked for: whoever finds one outside an opened message has found a leak
   (``canaries``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from exchange.core.wire import JsonObject, JsonValue

EVIDENCE_NAME: Final = "payments-of-the-invented-office.csv"
_MIN_CANARY_BYTES: Final = 8  # shorter ones turn up in ciphertext by chance


@dataclass(frozen=True, slots=True)
class Person:
    """An invented person: the name as written at home, in its order, and romanised."""

    script: str
    order: str
    full: str
    scheme: str
    romanised: str
    birth: tuple[str, str, str]  # Gregorian, calendar of the source, as the source writes it
    gender: str
    alias: str = ""

    def shown(self) -> str:
        """Both forms, for people."""
        return f"{self.full} ({self.romanised})"

    def identity(self, country: str) -> JsonObject:
        """The identity part of a statement."""
        value, calendar, original = self.birth
        original_form: JsonObject = {"script": self.script, "full": self.full}
        romanised: JsonObject = {"scheme": self.scheme, "full": self.romanised}
        names: list[JsonValue] = [{"order": self.order, "original": original_form, "romanised": [romanised]}]
        if self.alias:
            names.append({"use": "alias", "original": {"script": "Latn", "full": self.alias}})
        return {
            "names": names,
            "birth": {"value": value, "calendar": calendar, "original": original},
            "gender": self.gender,
            "nationalities": [country],
        }


@dataclass(frozen=True, slots=True)
class Country:
    """A country of the story, one victim and one suspect from it."""

    name: str
    language: str
    victim: Person
    suspect: Person
    received: str  # "We have received it and look into it.", in its language


def _person(script: str, order: str, names: tuple[str, str, str, str], birth: tuple[str, str, str], sex: str) -> Person:
    full, scheme, romanised, alias = names
    return Person(script, order, full, scheme, romanised, birth, "feminine" if sex == "f" else "masculine", alias)


COUNTRIES: Final[dict[str, Country]] = {
    "KH": Country(
        "Cambodia",
        "km",
        _person(
            "Khmr",
            "family_first",
            ("សន្មត បុប្ផាឧទាហរណ៍", "passport", "SANMOT BOPHAOUTEAHAR", ""),
            ("2003-02-11", "gregorian", "១១ កុម្ភៈ ២០០៣"),
            "f",
        ),
        _person(
            "Khmr",
            "family_first",
            ("គំរូ ក្លែងបន្លំប្រឌិត", "ungegn_khmer", "Kumru Klengbanlum-Bradet", "Boss Outeahar"),
            ("1985", "gregorian", "១៩៨៥"),
            "m",
        ),
        "យើងបានទទួល ហើយកំពុងពិនិត្យ។",
    ),
    "CN": Country(
        "China",
        "zh",
        _person(
            "Hans",
            "family_first",
            ("虞示例花", "pinyin", "Yu Shilihua", ""),
            ("2001-05", "gregorian", "2001年5月"),
            "f",
        ),
        _person(
            "Hans",
            "family_first",
            ("贾样本虚构", "pinyin", "Jia Yangben-Xugou", "Brother Yangben"),
            ("1979-10-02", "gregorian", "1979年10月2日"),
            "m",
        ),
        "已收到并正在核查。",
    ),
    "LA": Country(
        "Lao PDR",
        "lo",
        _person(
            "Laoo",
            "given_first",
            ("ສົມມຸດ ດອກຈຳລອງ", "bgn_pcgn_lao", "Sommout Dokchamlong", ""),
            ("2004-06-30", "buddhist", "30/06/2547"),
            "f",
        ),
        _person(
            "Laoo",
            "given_first",
            ("ຕົວຢ່າງ ບໍ່ແມ່ນຄົນແທ້", "bgn_pcgn_lao", "Touayang Bomenkhonthe", ""),
            ("1990", "buddhist", "2533"),
            "m",
        ),
        "ໄດ້ຮັບແລ້ວ ກຳລັງກວດສອບ.",
    ),
    "MM": Country(
        "Myanmar",
        "my",
        _person(
            "Mymr",
            "single",
            ("မနမူနာစိတ်ကူးယဉ်", "mlcts", "Ma Namuna Seitkuyin", ""),
            ("2002-11", "gregorian", "၂၀၀၂ နိုဝင်ဘာ"),
            "f",
        ),
        _person(
            "Mymr",
            "single",
            ("ကိုစမ်းသပ်ပုံဥပမာ", "mlcts", "Ko Santhatpon Upama", "Saya Namuna"),
            ("1983", "gregorian", "၁၉၈၃"),
            "m",
        ),
        "လက်ခံရရှိပြီး စစ်ဆေးနေပါသည်။",
    ),
    "TH": Country(
        "Thailand",
        "th",
        _person(
            "Thai",
            "given_first",
            ("สมมติ ดอกไม้จำลอง", "rtgs", "Sommot Dokmaichamlong", ""),
            ("2000-12-24", "buddhist", "24/12/2543"),
            "f",
        ),
        _person(
            "Thai",
            "given_first",
            ("จำลอง ตัวอย่างไม่จริง", "rtgs", "Chamlong Tuayangmaiching", "Hia Chamlongdemo"),
            ("1981-07-05", "buddhist", "5 ก.ค. 2524"),
            "m",
        ),
        "ได้รับเรื่องแล้ว กำลังตรวจสอบ",
    ),
    "VN": Country(
        "Viet Nam",
        "vi",
        _person(
            "Latn",
            "family_first",
            ("Nguyễn Thị Ví Dụ Hư Cấu", "vietnamese_plain", "Nguyen Thi Vi Du Hu Cau", ""),
            ("2005-03-08", "gregorian", "08/03/2005"),
            "f",
        ),
        _person(
            "Latn",
            "family_first",
            ("Trần Văn Giả Định Mẫu", "vietnamese_plain", "Tran Van Gia Dinh Mau", "Anh Giadinhmau"),
            ("1988-01-19", "gregorian", "19/01/1988"),
            "m",
        ),
        "Đã nhận được, đang xem xét.",
    ),
}


def canaries() -> tuple[str, ...]:
    """Every name of the story in every form, the parts of names that are long enough, and the file's name."""
    found: dict[str, None] = {EVIDENCE_NAME: None}
    for country in COUNTRIES.values():
        for person in (country.victim, country.suspect):
            for name in (person.full, person.romanised, person.alias):
                for form in (name, *name.split()):
                    if len(form.encode()) >= _MIN_CANARY_BYTES:
                        found[form] = None
    return tuple(found)
