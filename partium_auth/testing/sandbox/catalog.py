"""A few thousand plausible spare parts per organization, the same ones on every machine and in every run.

A part's id says its category (``AC1048213``: ``AC`` for the organization, 10 for the category), so that its picture can
be drawn from the id alone. Names are put together on demand from the tables below, in five languages.
"""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property, lru_cache
from random import Random

LANGUAGES = ("en", "de", "fr", "es", "it")
PARTS_PER_ORGANIZATION = 2_400

_PART_NAMESPACE = uuid.UUID("6f0e2f60-3c5e-4a53-9d6b-6a2f6e1c7a10")
_FIRST_DAY = datetime(2019, 1, 7, 6, 0, tzinfo=UTC)


@dataclass(frozen=True)
class Category:
    """A kind of part.

    Attributes:
        code: the two digits in the ids of its parts.
        slug: its name for code.
        variants: names of the kinds within it; each a tuple in the order of :data:`LANGUAGES`.
        keywords: further words by which people look for it, per language.
        materials: keys of :data:`MATERIALS`.
    """

    code: int
    slug: str
    variants: tuple[tuple[str, ...], ...]
    keywords: tuple[str, ...]
    materials: tuple[str, ...]


MATERIALS = {
    "steel": ("Steel", "Stahl", "Acier", "Acero", "Acciaio"),
    "stainless": ("Stainless steel", "Edelstahl", "Acier inoxydable", "Acero inoxidable", "Acciaio inox"),
    "brass": ("Brass", "Messing", "Laiton", "Latón", "Ottone"),
    "aluminum": ("Aluminum", "Aluminium", "Aluminium", "Aluminio", "Alluminio"),
    "plastic": ("Polyamide", "Polyamid", "Polyamide", "Poliamida", "Poliammide"),
    "rubber": ("Nitrile rubber", "Nitrilkautschuk", "Caoutchouc nitrile", "Caucho nitrilo", "Gomma nitrilica"),
    "silicone": ("Silicone", "Silikon", "Silicone", "Silicona", "Silicone"),
    "paper": ("Cellulose", "Zellulose", "Cellulose", "Celulosa", "Cellulosa"),
    "cast_iron": ("Cast iron", "Gusseisen", "Fonte", "Hierro fundido", "Ghisa"),
}

ATTRIBUTE_NAMES = {
    "manufacturer": ("Manufacturer", "Hersteller", "Fabricant", "Fabricante", "Produttore"),
    "manufacturerPartNumber": (
        "Manufacturer part number",
        "Herstellernummer",
        "Référence fabricant",
        "Referencia del fabricante",
        "Codice produttore",
    ),
    "material": ("Material", "Werkstoff", "Matériau", "Material", "Materiale"),
    "dimensions": ("Dimensions", "Abmessungen", "Dimensions", "Dimensiones", "Dimensioni"),
    "rating": ("Rating", "Nennwert", "Valeur nominale", "Valor nominal", "Valore nominale"),
    "weight": ("Weight", "Gewicht", "Poids", "Peso", "Peso"),
}

MANUFACTURERS = (
    "Brightwell",
    "Kestrel Drives",
    "Nordhaven",
    "Rotaviva",
    "Steinfels",
    "Valdoro",
    "Ostermark",
    "Lumen & Vale",
    "Ardenne Industrie",
    "Tramontana",
    "Hollis Bay",
    "Quarzwerk",
)

CATEGORIES = (
    Category(
        10,
        "fans",
        (
            ("Axial fan", "Axiallüfter", "Ventilateur axial", "Ventilador axial", "Ventola assiale"),
            (
                "Centrifugal fan",
                "Radialventilator",
                "Ventilateur centrifuge",
                "Ventilador centrífugo",
                "Ventilatore centrifugo",
            ),
            (
                "Cooling fan",
                "Kühllüfter",
                "Ventilateur de refroidissement",
                "Ventilador de refrigeración",
                "Ventola di raffreddamento",
            ),
            (
                "Cabinet fan",
                "Schaltschranklüfter",
                "Ventilateur d’armoire",
                "Ventilador de armario",
                "Ventilatore per quadro",
            ),
        ),
        (
            "fan blower ventilator",
            "Lüfter Ventilator Gebläse",
            "ventilateur soufflante",
            "ventilador soplador",
            "ventola ventilatore",
        ),
        ("plastic", "aluminum", "steel"),
    ),
    Category(
        11,
        "filters",
        (
            ("Air filter", "Luftfilter", "Filtre à air", "Filtro de aire", "Filtro dell’aria"),
            ("Oil filter", "Ölfilter", "Filtre à huile", "Filtro de aceite", "Filtro dell’olio"),
            (
                "Hydraulic filter element",
                "Hydraulikfilterelement",
                "Élément filtrant hydraulique",
                "Elemento filtrante hidráulico",
                "Elemento filtrante idraulico",
            ),
            ("Pocket filter", "Taschenfilter", "Filtre à poches", "Filtro de bolsas", "Filtro a tasche"),
        ),
        ("filter strainer", "Filter Sieb", "filtre crépine", "filtro colador", "filtro setaccio"),
        ("paper", "stainless", "plastic"),
    ),
    Category(
        12,
        "bearings",
        (
            (
                "Deep groove ball bearing",
                "Rillenkugellager",
                "Roulement rigide à billes",
                "Rodamiento rígido de bolas",
                "Cuscinetto radiale a sfere",
            ),
            (
                "Tapered roller bearing",
                "Kegelrollenlager",
                "Roulement à rouleaux coniques",
                "Rodamiento de rodillos cónicos",
                "Cuscinetto a rulli conici",
            ),
            ("Needle bearing", "Nadellager", "Roulement à aiguilles", "Rodamiento de agujas", "Cuscinetto a rullini"),
            (
                "Pillow block bearing",
                "Stehlager",
                "Palier à semelle",
                "Soporte de pie con rodamiento",
                "Supporto ritto",
            ),
        ),
        (
            "bearing",
            "Lager Wälzlager Kugellager",
            "roulement palier",
            "rodamiento cojinete",
            "cuscinetto supporto",
        ),
        ("steel", "stainless"),
    ),
    Category(
        13,
        "seals",
        (
            ("O-ring", "O-Ring", "Joint torique", "Junta tórica", "Guarnizione O-ring"),
            ("Shaft seal", "Wellendichtring", "Joint d’arbre", "Retén de eje", "Paraolio"),
            ("Flat gasket", "Flachdichtung", "Joint plat", "Junta plana", "Guarnizione piatta"),
            ("Mechanical seal", "Gleitringdichtung", "Garniture mécanique", "Cierre mecánico", "Tenuta meccanica"),
        ),
        (
            "seal gasket ring",
            "Dichtung Dichtring Simmerring",
            "joint étanchéité",
            "junta retén sello",
            "guarnizione tenuta",
        ),
        ("rubber", "silicone"),
    ),
    Category(
        14,
        "belts",
        (
            ("V-belt", "Keilriemen", "Courroie trapézoïdale", "Correa trapezoidal", "Cinghia trapezoidale"),
            ("Timing belt", "Zahnriemen", "Courroie crantée", "Correa dentada", "Cinghia dentata"),
            ("Flat belt", "Flachriemen", "Courroie plate", "Correa plana", "Cinghia piatta"),
            (
                "Ribbed belt",
                "Keilrippenriemen",
                "Courroie striée",
                "Correa acanalada",
                "Cinghia scanalata",
            ),
        ),
        ("belt drive", "Riemen Antriebsriemen", "courroie", "correa", "cinghia"),
        ("rubber", "plastic"),
    ),
    Category(
        15,
        "valves",
        (
            ("Ball valve", "Kugelhahn", "Vanne à boisseau sphérique", "Válvula de bola", "Valvola a sfera"),
            ("Solenoid valve", "Magnetventil", "Électrovanne", "Electroválvula", "Elettrovalvola"),
            ("Check valve", "Rückschlagventil", "Clapet anti-retour", "Válvula antirretorno", "Valvola di ritegno"),
            (
                "Pressure relief valve",
                "Druckbegrenzungsventil",
                "Soupape de décharge",
                "Válvula limitadora de presión",
                "Valvola limitatrice di pressione",
            ),
        ),
        ("valve cock", "Ventil Hahn Absperrventil", "vanne soupape robinet", "válvula llave", "valvola rubinetto"),
        ("brass", "stainless", "cast_iron"),
    ),
    Category(
        16,
        "motors",
        (
            ("Electric motor", "Elektromotor", "Moteur électrique", "Motor eléctrico", "Motore elettrico"),
            ("Geared motor", "Getriebemotor", "Motoréducteur", "Motorreductor", "Motoriduttore"),
            ("Servo motor", "Servomotor", "Servomoteur", "Servomotor", "Servomotore"),
            ("Stepper motor", "Schrittmotor", "Moteur pas à pas", "Motor paso a paso", "Motore passo-passo"),
        ),
        ("motor engine drive", "Motor Antrieb", "moteur entraînement", "motor accionamiento", "motore azionamento"),
        ("cast_iron", "aluminum"),
    ),
    Category(
        17,
        "sensors",
        (
            (
                "Temperature sensor",
                "Temperatursensor",
                "Capteur de température",
                "Sensor de temperatura",
                "Sensore di temperatura",
            ),
            ("Pressure sensor", "Drucksensor", "Capteur de pression", "Sensor de presión", "Sensore di pressione"),
            (
                "Proximity switch",
                "Näherungsschalter",
                "Détecteur de proximité",
                "Interruptor de proximidad",
                "Interruttore di prossimità",
            ),
            ("Light barrier", "Lichtschranke", "Barrière lumineuse", "Barrera fotoeléctrica", "Barriera fotoelettrica"),
        ),
        ("sensor probe detector", "Sensor Fühler Geber", "capteur sonde détecteur", "sensor sonda", "sensore sonda"),
        ("stainless", "plastic", "brass"),
    ),
    Category(
        18,
        "pumps",
        (
            ("Centrifugal pump", "Kreiselpumpe", "Pompe centrifuge", "Bomba centrífuga", "Pompa centrifuga"),
            ("Gear pump", "Zahnradpumpe", "Pompe à engrenages", "Bomba de engranajes", "Pompa a ingranaggi"),
            ("Diaphragm pump", "Membranpumpe", "Pompe à membrane", "Bomba de membrana", "Pompa a membrana"),
            ("Vacuum pump", "Vakuumpumpe", "Pompe à vide", "Bomba de vacío", "Pompa per vuoto"),
        ),
        ("pump", "Pumpe Förderpumpe", "pompe", "bomba", "pompa"),
        ("cast_iron", "stainless", "plastic"),
    ),
    Category(
        19,
        "gears",
        (
            ("Spur gear", "Stirnrad", "Engrenage droit", "Engranaje recto", "Ingranaggio cilindrico"),
            ("Bevel gear", "Kegelrad", "Engrenage conique", "Engranaje cónico", "Ingranaggio conico"),
            ("Sprocket", "Kettenrad", "Pignon à chaîne", "Piñón de cadena", "Pignone per catena"),
            ("Worm wheel", "Schneckenrad", "Roue à vis sans fin", "Rueda helicoidal", "Ruota elicoidale"),
        ),
        ("gear cogwheel", "Zahnrad Getriebe", "engrenage pignon", "engranaje piñón", "ingranaggio pignone"),
        ("steel", "brass", "plastic"),
    ),
    Category(
        20,
        "springs",
        (
            (
                "Compression spring",
                "Druckfeder",
                "Ressort de compression",
                "Muelle de compresión",
                "Molla di compressione",
            ),
            ("Tension spring", "Zugfeder", "Ressort de traction", "Muelle de tracción", "Molla di trazione"),
            ("Gas spring", "Gasdruckfeder", "Vérin à gaz", "Muelle de gas", "Molla a gas"),
        ),
        ("spring", "Feder", "ressort", "muelle resorte", "molla"),
        ("steel", "stainless"),
    ),
    Category(
        21,
        "screws",
        (
            ("Hexagon bolt", "Sechskantschraube", "Vis à tête hexagonale", "Tornillo hexagonal", "Vite esagonale"),
            (
                "Socket head screw",
                "Zylinderschraube",
                "Vis à tête cylindrique",
                "Tornillo de cabeza cilíndrica",
                "Vite a testa cilindrica",
            ),
            ("Eye bolt", "Ringschraube", "Vis à œil", "Cáncamo", "Golfare"),
        ),
        ("screw bolt fastener", "Schraube Bolzen", "vis boulon", "tornillo perno", "vite bullone"),
        ("steel", "stainless", "brass"),
    ),
    Category(
        22,
        "hoses",
        (
            ("Hydraulic hose", "Hydraulikschlauch", "Flexible hydraulique", "Manguera hidráulica", "Tubo idraulico"),
            (
                "Compressed air hose",
                "Druckluftschlauch",
                "Tuyau d’air comprimé",
                "Manguera de aire comprimido",
                "Tubo per aria compressa",
            ),
            (
                "Coolant hose",
                "Kühlmittelschlauch",
                "Durite de refroidissement",
                "Manguito de refrigerante",
                "Manicotto",
            ),
        ),
        ("hose tube", "Schlauch Leitung", "tuyau flexible durite", "manguera tubo", "tubo flessibile"),
        ("rubber", "silicone", "plastic"),
    ),
    Category(
        23,
        "relays",
        (
            ("Safety relay", "Sicherheitsrelais", "Relais de sécurité", "Relé de seguridad", "Relè di sicurezza"),
            ("Contactor", "Schütz", "Contacteur", "Contactor", "Contattore"),
            ("Time relay", "Zeitrelais", "Relais temporisé", "Relé temporizador", "Relè temporizzato"),
        ),
        ("relay switchgear", "Relais Schaltgerät", "relais", "relé", "relè"),
        ("plastic",),
    ),
    Category(
        24,
        "rollers",
        (
            ("Conveyor roller", "Förderrolle", "Rouleau de convoyeur", "Rodillo transportador", "Rullo trasportatore"),
            ("Guide roller", "Führungsrolle", "Galet de guidage", "Rodillo guía", "Rullo di guida"),
            ("Swivel castor", "Lenkrolle", "Roulette pivotante", "Rueda giratoria", "Ruota girevole"),
        ),
        ("roller wheel castor", "Rolle Laufrolle Rad", "rouleau galet roulette", "rodillo rueda", "rullo ruota"),
        ("steel", "plastic", "rubber"),
    ),
    Category(
        25,
        "brakes",
        (
            ("Brake pad", "Bremsbelag", "Plaquette de frein", "Pastilla de freno", "Pastiglia freno"),
            ("Brake disc", "Bremsscheibe", "Disque de frein", "Disco de freno", "Disco freno"),
            (
                "Electromagnetic brake",
                "Elektromagnetbremse",
                "Frein électromagnétique",
                "Freno electromagnético",
                "Freno elettromagnetico",
            ),
        ),
        ("brake", "Bremse", "frein", "freno", "freno"),
        ("steel", "cast_iron"),
    ),
)

_CATEGORY_BY_CODE = {category.code: category for category in CATEGORIES}


@dataclass(frozen=True, slots=True)
class Part:
    """One spare part. Texts that depend on the language are methods."""

    id: str
    category: Category
    variant: int
    detail: str
    dimensions: str
    rating: str
    material: str
    manufacturer: str
    manufacturer_part_number: str
    weight_grams: int
    mounting_locations_count: int
    created_at: datetime
    modified_at: datetime

    @property
    def partium_id(self) -> str:
        """Partium's own id of the part, here derived from the customer's."""
        return str(uuid.uuid5(_PART_NAMESPACE, self.id))

    def name(self, language: int) -> str:
        """The part's name.

        Args:
            language: index into :data:`LANGUAGES`.
        """
        return f"{self.category.variants[self.variant][language]} {self.detail}"

    def attributes(self, language: int) -> list[dict[str, str]]:
        """What else is known of the part, with labels and values in one language."""
        values = {
            "manufacturer": self.manufacturer,
            "manufacturerPartNumber": self.manufacturer_part_number,
            "material": MATERIALS[self.material][language],
            "dimensions": self.dimensions,
            "rating": self.rating,
            "weight": f"{self.weight_grams} g",
        }
        return [
            {"key": key, "name": ATTRIBUTE_NAMES[key][language], "value": value}
            for key, value in values.items()
            if value
        ]


def category_of(part_id: str) -> Category | None:
    """The category that a part id names, or None where it is no part id of this sandbox."""
    if len(part_id) == 9 and part_id[:2].isalnum() and part_id[2:].isdecimal() and part_id.isascii():
        return _CATEGORY_BY_CODE.get(int(part_id[2:4]))
    return None


def _measures(category: Category, random: Random) -> tuple[str, str, str]:  # noqa: C901 - one case per category
    """Plausible detail for the name, dimensions, and rating, in units every language shares."""
    pick = random.choice
    match category.slug:
        case "fans":
            size = pick((60, 80, 92, 120, 140, 172, 200, 254))
            volt = pick(("12 V DC", "24 V DC", "48 V DC", "115 V AC", "230 V AC"))
            return f"{size} mm {volt}", f"{size} × {size} × {pick((25, 32, 38, 51))} mm", volt
        case "filters":
            diameter, height = pick((65, 76, 93, 108, 136)), pick((79, 100, 142, 178, 250, 305))
            fineness = f"{pick((3, 5, 10, 25, 40))} µm"
            return f"Ø{diameter} × {height} mm", f"Ø{diameter} × {height} mm", fineness
        case "bearings":
            bore = pick((10, 12, 15, 17, 20, 25, 30, 35, 40, 45, 50, 60))
            outer, width = bore + pick((16, 20, 22, 27, 32)), pick((9, 11, 12, 14, 15, 16, 18, 21))
            designation = f"{pick((60, 62, 63, 302, 322))}{bore // 5 if bore >= 20 else pick((0, 1, 2, 3)):02d}"
            return (
                f"{designation}{pick(('', '-2RS', '-ZZ', ' C3'))}",
                f"{bore} × {outer} × {width} mm",
                f"{bore // 2} kN",
            )
        case "seals":
            inner, cord = pick((8, 12, 16, 20, 25, 32, 40, 50, 63, 80)), pick(("1.5", "2", "2.5", "3", "4", "5"))
            return f"{inner} × {cord} mm", f"{inner} × {cord} mm", f"{pick((60, 70, 80, 90))} Shore A"
        case "belts":
            length, profile = random.randrange(500, 3_000, 25), pick(("SPA", "SPB", "SPZ", "XPA", "HTD 5M", "HTD 8M"))
            return f"{profile} {length}", f"{length} mm", ""
        case "valves":
            size = pick((8, 10, 15, 20, 25, 32, 40, 50, 65, 80))
            return f"DN{size} PN{(pressure := pick((10, 16, 25, 40)))}", f"DN{size}", f"{pressure} bar"
        case "motors":
            power = pick(("0.18", "0.25", "0.37", "0.55", "0.75", "1.1", "1.5", "2.2", "3", "4", "5.5", "7.5"))
            return f"{power} kW", f"IEC {pick((63, 71, 80, 90, 100, 112, 132))}", f"{pick((750, 1000, 1500, 3000))} rpm"
        case "sensors":
            thread = pick(("M8", "M12", "M18", "M30", "G1/4", "G1/2"))
            signal = pick(("4–20 mA", "0–10 V", "PNP NO", "NPN NC", "Pt100"))
            return f"{thread} {signal}", f"{thread} × {pick((35, 45, 50, 60, 80))} mm", signal
        case "pumps":
            flow, head = pick((2, 4, 6, 10, 16, 25, 40, 63)), pick((8, 12, 20, 32, 45))
            return f"{flow} m³/h", f"{pick((210, 260, 320, 380))} × {pick((140, 180, 220))} mm", f"{head} m"
        case "gears":
            module, teeth = pick((1, 2, 3, 4, 5)), random.randrange(12, 80)
            return f"M{module} Z{teeth}", f"Ø{module * (teeth + 2)} mm", f"Z = {teeth}"
        case "springs":
            wire, length = pick(("0.8", "1", "1.5", "2", "3", "4")), random.randrange(20, 220, 5)
            return f"{wire} × {length} mm", f"{wire} × {length} mm", f"{random.randrange(10, 900, 10)} N"
        case "screws":
            thread, length = pick(("M4", "M5", "M6", "M8", "M10", "M12", "M16")), random.randrange(10, 120, 5)
            return f"{thread} × {length}", f"{thread} × {length} mm", pick(("8.8", "10.9", "A2-70", "A4-80"))
        case "hoses":
            bore, length = pick((6, 8, 10, 13, 16, 19, 25, 32)), pick((400, 600, 850, 1000, 1500, 2000, 5000))
            return f"DN{bore} {length} mm", f"Ø{bore} × {length} mm", f"{pick((10, 16, 40, 210, 330))} bar"
        case "relays":
            coil, contacts = pick(("24 V DC", "110 V AC", "230 V AC")), pick(("1 CO", "2 CO", "3 NO 1 NC", "4 NO"))
            return f"{coil} {contacts}", f"{pick((18, 22, 36, 45))} × 90 × 110 mm", f"{pick((6, 9, 12, 25, 40))} A"
        case "rollers":
            diameter, width = pick((30, 40, 50, 60, 80, 100, 125)), random.randrange(20, 620, 50)
            return f"Ø{diameter} × {width} mm", f"Ø{diameter} × {width} mm", f"{random.randrange(40, 500, 20)} kg"
        case _:
            diameter, thickness = pick((80, 120, 160, 200, 250, 300)), pick((8, 10, 12, 16, 20))
            return f"{diameter} mm", f"{diameter} × {thickness} mm", f"{random.randrange(20, 600, 20)} Nm"


class Catalog:
    """The parts of one organization.

    Args:
        org_id: decides which parts these are; two organizations never share the whole catalog.
        size: how many.
    """

    def __init__(self, org_id: str, size: int = PARTS_PER_ORGANIZATION) -> None:
        seed = int.from_bytes(hashlib.sha256(org_id.encode()).digest()[:8])
        random = Random(seed)
        prefix = "".join(one for one in org_id.upper() if one.isascii() and one.isalnum())[:2].ljust(2, "X")
        numbers = random.sample(range(100_000), size)
        self.parts = [self._part(f"{prefix}{{}}{number:05d}", index, random) for index, number in enumerate(numbers)]

    @staticmethod
    def _part(pattern: str, index: int, random: Random) -> Part:
        category = CATEGORIES[index % len(CATEGORIES)]
        detail, dimensions, rating = _measures(category, random)
        manufacturer = random.choice(MANUFACTURERS)
        created_at = _FIRST_DAY + timedelta(minutes=random.randrange(5 * 365 * 24 * 60))
        return Part(
            id=pattern.format(category.code),
            category=category,
            variant=random.randrange(len(category.variants)),
            detail=detail,
            dimensions=dimensions,
            rating=rating,
            material=random.choice(category.materials),
            manufacturer=manufacturer,
            manufacturer_part_number=f"{manufacturer[:2].upper()}-{random.randrange(10_000, 99_999)}",
            weight_grams=int(10 ** random.uniform(0.7, 4.2)),
            mounting_locations_count=int(2 ** random.uniform(0, 7)),
            created_at=created_at,
            modified_at=created_at + timedelta(minutes=random.randrange(400 * 24 * 60)),
        )

    @cached_property
    def by_id(self) -> dict[str, int]:
        """Index of each part by its id."""
        return {part.id: index for index, part in enumerate(self.parts)}


@lru_cache(maxsize=32)
def catalog_of(org_id: str) -> Catalog:
    """The catalog of an organization, generated once per process."""
    return Catalog(org_id)
