"""Word tables of the rules about minors; a new word also needs a row in its test.

All entries are in canonical form (:func:`alignguard_data.contracts.text.canonical`). A blank in a
phrase matches a blank, a hyphen or nothing.
"""

WORDS = frozenset(
    """
    child childs children childrens childish childlike childhood childhoods boyhood girlhood
    babyhood grandchild grandchildren stepchild stepchildren godchild godchildren kid kids kidz
    kiddo kiddos kiddie kiddies kiddy kidlet kidlets grandkid grandkids stepkid stepkids toddler
    toddlers tot tots infant infants infantile baby babys babies babey newborn newborns neonate
    neonates minor minors underage underaged underager underagers teen teens teenz teeny teenie
    teenies teenage teenaged teenager teenagers teenybopper teenyboppers preteen preteens
    preteenage preteenaged preteenager preteenagers tween tweens tweenager tweenagers adolescent
    adolescents adolescence preadolescent preadolescents preadolescence juvenile juveniles youth
    youths youngster youngsters pubescent pubescents prepubescent prepubescents puberty boy boys
    boyz boyish girl girls girlz girly girlish lad lads lass lasses lassie lassies schoolboy
    schoolboys schoolgirl schoolgirls schoolkid schoolkids schoolchild schoolchildren
    schooluniform schooluniforms preschool preschools preschooler preschoolers loli lolis lolita
    lolitas lolicon shota shotas shotacon jailbait jailbaits cherub cherubs cherubim putto putti
    kindergarten kindergartens kindergartner kindergartners kindergartener kindergarteners daycare
    nursery nurseries quinceanera quinceaneras bambino bambina bambini enfant enfants madchen
    menino menina meninos meninas nino nina ninos ninas crianca criancas fillette fillettes
    kleinkind kleinkinder jugendliche jugendlicher jugendlichen minderjahrig minderjahrige
    minderjahriger mineur mineure mineurs mineures adolescente adolescentes pupil pupils
    prepubertal pubertal bairn bairns rugrat rugrats tyke tykes
    """.split()
)

PHRASES = (
    "under age",
    "under aged",
    "under ager",
    "under agers",
    "pre teen",
    "pre teens",
    "pre teenage",
    "pre teenager",
    "pre teenagers",
    "pre adolescent",
    "pre adolescents",
    "pre pubescent",
    "pre pubescents",
    "teen age",
    "teen aged",
    "teen ager",
    "teen agers",
    "school boy",
    "school boys",
    "school girl",
    "school girls",
    "school kid",
    "school kids",
    "school child",
    "school children",
    "school uniform",
    "school uniforms",
    "school age",
    "school aged",
    "jail bait",
    "jail baits",
    "barely legal",
    "pre school",
    "pre schooler",
    "pre schoolers",
    "pre k",
    "day care",
    "elementary school",
    "primary school",
    "middle school",
    "grade school",
    "junior school",
    "high school",
    "secondary school",
    "elementary schooler",
    "elementary schoolers",
    "middle schooler",
    "middle schoolers",
    "grade schooler",
    "grade schoolers",
    "high schooler",
    "high schoolers",
    "junior high",
    "sweet sixteen",
    "pre pubertal",
    "ankle biter",
    "ankle biters",
    "street urchin",
    "street urchins",
    "little sister",
    "little sisters",
    "little brother",
    "little brothers",
    "tender years",
    "bar mitzvah",
    "bar mitzvahs",
    "bat mitzvah",
    "bat mitzvahs",
    "first communion",
    "first communions",
    "too young to vote",
    "too young to drink",
    "too young to drive",
    "not old enough to vote",
    "not old enough to drink",
    "not old enough to drive",
    *(
        f"{word} {the}{what} age"
        for word in ("under", "below")
        for the in ("", "the ", "the legal ", "legal ")
        for what in ("voting", "drinking", "driving")
    ),
    "sixth form",
    "sixth forms",
    "cub scout",
    "cub scouts",
    "beaver scout",
    "beaver scouts",
    "jeune fille",
    "jeunes filles",
    "not of age",
    "not yet of age",
    "not of legal age",
    "under legal age",
    "under the legal age",
    "below legal age",
    "below the legal age",
    "under the age of consent",
    "below the age of consent",
    "under the age of majority",
    "below the age of majority",
)

OTHER_SCRIPTS = (
    *"子供 子ども こども 少女 幼女 少年 儿童 兒童 孩子 ロリ ショタ".split(),
    *"小孩 小学生 小學生 中学生 中學生 高校生 高中生 女子高生 男子高生".split(),
    *"未成年 幼儿 幼兒 婴儿 嬰兒 赤ちゃん".split(),
    *"어린이 소녀 미성년 청소년 طفل أطفال बच्चा बच्चे".split(),
    *"ребен дети детск девочк мальчик подросток подростк".split(),
    *"школьник школьниц младен несовершеннолет".split(),
    *"\U0001f466 \U0001f467 \U0001f476 \U0001f9d2".split(),
)
"""Matched anywhere in a text, without word boundaries."""

ANIMALS = frozenset(
    """
    elephant elephants giraffe giraffes zebra zebras rhino rhinos hippo hippos camel camels
    kangaroo kangaroos turtle turtles whale whales dolphin dolphins cow cows sheep goat goats
    """.split()
)
"""Animals whose young is called a baby; none that is also said of people, like bear or bird."""

EXCEPTIONS = (
    "baby blue",
    "baby pink",
    "baby grand",
    "baby grands",
    "baby carrot",
    "baby carrots",
    "baby corn",
    "baby spinach",
    "baby's breath",
    *(f"baby {animal}" for animal in sorted(ANIMALS)),
    "minor key",
    "minor keys",
    "minor chord",
    "minor chords",
    "minor scale",
    "minor scales",
    "minor detail",
    "minor details",
    "minor planet",
    "minor planets",
    "minor arcana",
    "minor damage",
    "minor injury",
    "minor injuries",
    "minor scratches",
    "minor repairs",
    "ursa minor",
    "canis minor",
    "leo minor",
    "asia minor",
    *(
        f"{word} pupils"
        for word in "dilated slit slitted vertical narrow round constricted".split()
    ),
    "pupils dilated",
    "pupil dilation",
    "eye pupil",
    "eye pupils",
    "pupil of the eye",
    "pupils of the eyes",
    "plant nursery",
    "tree nursery",
    "teeny tiny",
    "tater tot",
    "tater tots",
    *(
        f"game boy {word}"
        for word in "advance color colour console consoles cartridge cartridges".split()
    ),
)
"""Words joined by one blank or hyphen that mean something else, unless a word for a person
follows ("a minor key witness")."""

AT_AN_END = ("game boy",)
"""Exceptions only at the end of a text: what follows could say that a person is meant ("a game boy
smiling", "a game boy, 12")."""

NOT_MEANT = frozenset("toot toots tooted tooting kidd ladd".split())
"""Words that match one of :data:`WORDS` only after unmasking their letters."""

PERSONS = frozenset(
    """
    woman women man men lady ladies gentleman gentlemen female females male males model models
    person student students pupil pupils virgin virgins daughter daughters son sons
    sister sisters brother brothers niece nieces nephew nephews cousin cousins sibling siblings
    actress actresses actor actors dancer dancers singer singers gymnast gymnasts cheerleader
    cheerleaders ballerina ballerinas princess princesses prince princes maid maids maiden maidens
    bride brides wife wives girlfriend girlfriends boyfriend boyfriends babe babes beauty beauties
    blonde blondes brunette brunettes redhead redheads guy guys dude dudes human humans individual
    individuals friend friends swimmer swimmers skater skaters athlete athletes player players
    witness witnesses victim victims patient patients suspect suspects runaway runaways orphan
    orphans apprentice apprentices
    """.split()
)
"""Words next to which a bare number is an age ("a woman, 16, posing")."""

COUNTED_PERSONS = frozenset("woman women man men person human humans player players".split())
"""Those that are often counted ("a 12 man crew", "under 5 players")."""

ANYONE = frozenset(
    """
    people persons guest guests resident residents someone somebody anyone folk folks member
    trainees attendees employees worker camper boarder trainee learner crowd
    """.split()
)
"""Further words for persons, which only say that the noun before them is no unit ("under 16 day
guests"); a number next to them is a count."""

MEASURES = frozenset(
    """
    foot feet ft inch inches in cm mm m km meter meters metre metres mile miles yard yards pound
    pounds lb lbs oz kg g gram grams ton tons tonne tonnes stone degree degrees percent pct times
    minute minutes min mins hour hours hr hrs seconds sec secs day days week weeks month
    months point points step steps block blocks floor floors storey storeys stories pixel pixels
    px mp am pm noon oclock o page pages corner corners turn turns circle circles pm x by mph kph
    km kilometer kilometers kilometre kilometres dollar dollars euro euros cent cents watt watts
    volt volts litre litres liter liters gallon gallons ounce ounces seconds place places
    heads fathoms knots carat carats hundred thousand
    million billion
    """.split()
)
"""Words after a number that is not an age."""

TIMES = frozenset(
    """
    second seconds sec secs minute minutes min mins hour hours hr hrs day days week weeks month
    months
    """.split()
)
"""Units of time; before a person they excuse no number ("under 16 day students")."""

ONE_TIME = frozenset("minute hour day week month".split())
"""Units of time in the singular; after a number of two or more, and before a pause, no measure."""

LAST_SECONDS = frozenset(
    """
    delay delays exposure exposures clip clips video videos timer timers countdown countdowns pause
    pauses recording recordings animation animations loop loops interval intervals
    """.split()
)
"""What lasts seconds ("under 16 second delay"); any other word makes it an ordinal ("under 16
second graders")."""

EXTENTS = frozenset("away ago later tall long wide deep high".split())
"""Words after such a measure ("12 in wide", "5 years away"); right after a number they excuse none:
"she is 15 deep in thought"."""
