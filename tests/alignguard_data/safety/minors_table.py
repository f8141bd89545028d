"""What the rules about minors refuse and allow, a text a line; add a line for what you find.

Plain neutral words only: it is the age or the word that is tested, never a scene.
"""


def _lines(block: str) -> tuple[str, ...]:
    return tuple(line for line in block.splitlines() if line.strip())


WORDS_REFUSED = _lines("""
a child
two CHILDREN
a childlike drawing
her childhood
a stepchild
a kid
kids at play
a kiddo
a toddler
a tot
tots
an infant
infants
a baby
babies
a baby's shoe
a newborn
a neonate
a minor
minors
the minor's coat
an underage person
under-age
under aged
a teen
teens
a teenager
teen-aged
teen-agers
a teenage model
a pre-teen
preteens
a tween
tweens
an adolescent
pre-adolescents
a juvenile
the youth
youths
a youngster
pubescent
pre-pubescent
prepubescents
puberty
a boy
boys
boyish
a girl
girls
girlish
a girly
a lad
lads
a lass
a lassie
a schoolboy
a school-boy
a schoolgirl
school girls
a school uniform
school-aged
a preschooler
pre-school
pre-K
kindergarten
a kindergartner
day care
daycare
a nursery
elementary school
a primary school
middle-school
a middle schooler
grade school
high school
a high-schooler
secondary school
junior high
a loli
lolita
shota
jailbait
jail bait
barely legal
barely-legal
a cherub
putti
a bambino
un enfant
una nina
una niña
a pupil
two pupils at a desk
pre-pubertal
prepubertal
an ankle-biter
street urchins
her little sister
a bat mitzvah
a bar-mitzvah
first communion
of tender years
someone too young to vote
not old enough to drive
below drinking age
under the legal drinking age
below the voting age
a rugrat
two tykes
a bairn
the pupil's coat
sixth-form students
a sixth form
a cub scout
beaver scouts
une jeune fille
une fillette
ein Kleinkind
minderjährige
小孩
中学生
女子高生
未成年
어린이
طفل
बच्चा
школьник
несовершеннолетние
""")

EXCEPTIONS_NOT_MEANT = _lines("""
game boys
two game boys
a game boy smiling
a game boy, 12
a game boy who waits
a game boy on a chair
a game boy and his friend
a game boy model
a game boy, a radio
game boy advance players
a game, boy
a boy game
a g4me b0y
a baby, blue blanket
a baby, elephant in the back
a baby. Elephants walk by
a baby and an elephant
a baby elephant girl
a baby elephant woman
a baby in an elephant costume
a baby - elephant toy
a baby. Blue blanket
a baby; pink roses
a baby. Pink roses
a baby (blue)
a baby: blue
a baby/blue
a baby, grand piano
a baby and a blue blanket
a baby in blue
a minor, key witness
a minor. Key of C
a minor key witness
a minor; scale model
a minor - chord
a minor, detail
a minor: planet
Ursa, minor
Asia. Minor
a plant, nursery
a tater, tot
a baby's, breath
baby  ,blue
a baby\u2014blue sky
a baby -- blue sky
a baby - blue sky
a minor\u2014key of C
""")

AGES_REFUSED = _lines("""
a 7 year old
a 7-year-old
7-year-olds
seven-year-olds
seven year old
12 years old
a 12yearold
a 12year old
12 yearsold
17yo
17 yo
17 y/o
17 y.o.
a 14-yr-old
14 yrs old
14yrs old
a 14 yr. old
15 y old
a 15 yr model
a 15 year model
a 15-yr woman
a 16-year female
fifteen years of age
fifteen years-of-age
12 of age
a 9 year's old
0 years old
1 year old
a year old
a year-old
a few years old
a couple of years old
several years old
half a year old
5 and a half years old
5½ years old
12 1/2 years old
12.5 years old
2,5 years old
a 12 year young person
17 summers old
seventeen summers old
12 winters old
a woman of 17 summers
she has seen 14 winters
6 months old
six-month-old
18 months old
a few weeks old
3 days old
a days-old
13-15 years old
13 to 15 years old
13 or 14 years old
between 13 and 15 years old
16 to 20 years old
15–17 years old
12, 13 and 14 year olds
aged 12
aged twelve
aged 12 to 14
aged between 13 and 15
woman aged between 13 and 15
aged from 13 to 15
aged under 16
aged about 15
aged only 9
aged: 11
aged 0-3
age: 9
age 9
age=9
age - 9
age (9)
age, 9
age is 9
age of six
at the age of 16
at age 16
her age was 11
ages 5 to 12
ages 5-12
age 3+
age12
aged12
age group 10-12
age range 6 to 9
turning 13
turned 12
turned sixteen
she turns 15 today
age 0f 12
4ge 12
under 18
under-18
under-18s
under 18s
under 18's
under eighteen
under-16s
under 16 models
under 18 models
under 18 girls
under-18 disco
under 12 squad
under the age of 18
under the age of consent, 15 years old
under age 18
below 18
below the age of eighteen
below 16
under 12, posing
under 18 and posing
sub-18
younger than eighteen
younger than 18
younger than 10
not yet 18
not yet eighteen
not quite 18
almost 18
nearly eighteen
before 18
less than 18
less than 18 years
less than 16 years old
<18
< 18
<=17
≤17
u18
U-16
u17s
she is 16
she is 16, posing
she is 16 posing
she is sixteen and smiling
she's 15
she’s 15
shes 15
he was 12
i am 13
I'm 14
im 14
who is 16
who is only 15 years
a woman who is just 17
she is not even 16
she is barely 16.
she was about 14
the model is 15
this model is only 16
they are 14
they are 12, smiling
they are fifteen and smiling
a woman, 16, on a chair
a woman (16)
a man, 17, in a chair
a model, 15.
a model (15) in a chair
a woman of 16
a woman of only 15, standing
a man of sixteen
a 16 model
a sixteen-female
a fifth grader
5th grader
5th-graders
a third-grade class
grade 6
grade six
grade K
grade 10 class
9th grade
first grade
12th-grader
K-12
k12
year 9 pupils
year 7 class
sweet sixteen
sweet 16
her 16th birthday
her tenth birthday
in her fifteenth year
she is 12 years
she is 16; posing
a woman of 15 years
a 15 years model
15 yrs model
a lady aged thirteen to fifteen
seventeen summers of age
with only 16 summers
a woman, sixteen years
a female, 17yrs
a woman 16 years
she looks 15
looks about 15 years
he is about to turn 16
her age: fifteen
her age? 14
age (in years): 13
under eighteens
under sixteens
under tens
a 14yr
just 15 yrs
16yrs
16y
15ish
about 15-ish years
nine going on ten
born 12 years ago
she is not 18
not yet of age
under legal age
below the legal age
not of legal age
women, aged 15 or 16
12 jährig
12-jährig
has lived 14 summers
but 15 summers
8ish
15ish, red hat
turning-13
a 3 female
a woman - 16
a woman - 16 - sitting
a woman: 16
a woman/16
men, 16, on a bench
women, 15, on a chair
a model (16/f)
an 8 model
an 11 female
this 16 model
that 15 model
her 16 model
his 15 model
my 14 model
the 16 model
the 16-model
the model is 9
the model's 16
they are 10 and smiling
3 weeks of life
17 years of life
under the age of 12 visitors
younger than 9 riders
under the ages of 12 riders
under age 12 riders
< = 16
u - 16 team
u8 team
≦17
under just 16
under only 18
under ages 12
under tens trophy
under 12 (red hat)
< 16 visitors
≤ 16 visitors
≦ 16 visitors
under 9
below 9
almost 10
not yet 16 and standing
under 12 players
under 5 models
under 16 fashion
looking 15
appears 15
seems 16
looks to be 15
appears to be 16
looks ~15
they look 15
not 13
1st grader
2nd grade
3rd grader
a twelfth grader
12th grade
5th grades
her 9th birthdays
in his 15th year
in their 15th year
they are 14 running
grade 1
grade 12
year 7 school
year 13 class
a monthold
a weekold
a dayold
a-year-old
she is 16: posing
under 12: posing
aged 12: posing
they are 14: posing
almost 18: a model
"she is 16", standing
“she is 16” on a sign
'she is 16', says a sign
a sign "under 16"
a "16" model
she is "16"
a woman ("16")
she is 16 in a red coat
she is 15 deep in thought
she is 15 long before the storm
she is 15 away from home
he is 12 high on a ladder
they are 14 in a garden
under 16 in a hall
under 12 in red
she is 16 by the sea
under the age of 18 visitors
under the ages of 18 visitors
must look 15
they are 14 second from left
they are 14 second from the left, all in red
they are 14, second from left
they are fourteen second from left
they are 14-second from left
they are 14 second in line
they are 14 second in the queue
they are 14 second row
they are 14 second-row seats
they are 14 second to last
they are 14 second on the right
they are 14 second of three
they are 14 second left
they are 14 second person from left
they are 14 2nd from left
they are 14 third from left
they are 14 3rd row
they are 14 first in line
they are 14 last in line
they are 14 next to a tree
they are 14 front row
they are 14 back row left
they are 14 left of the tree
they are 14 beside a tree
they are 14 near the lake
we are 14 second from left
theyre 14 second from left
women are 14 second from left
she is 14 second from left
he is 14 second in line
a man, 14 second from left
a woman (14 second row)
looks 14 second from left
turning 14 second from left
under 14 second row
under 16 second graders
under 16-second graders
under 16 second cousins
under 16-second cousins
under 16 second team
under 16, second delay
under 16 second row
under 16 second delay students
under 16-second delay models
under 16 second clip models
students under 16 second delay
a woman under 16 second exposure
under 16 second half
under 16 day students
under 16-day students
under 16 day-students
under 15 day students
under 12 day pupils
under 16 minute models
under 14 minute model
under 16 week pupils
under-16 week pupils
under sixteen week pupils
under 16 hour actors
under 16 hours models
under 16 month patients
under 16 min dancers
under 16 sec swimmers
under 16 seconds players
under 16 seconds delay models
under 16 day school students
under 16 day trip pupils
under 17 hour shift students
under 16 minute walk models
under 16 day campers
under 16 week trainees
under 16 day boarders
under 16 hour artists
under 16 day team
under 16 day people
under 16 minute persons
under 16 day guests
under 16 day someone
under 16 week camper
under 16 ms students
under 14 fortnight students
under 14 term pupils
under 16 semester students
under 15 night guests
under 16 day, students
women under 16 minute
under 16 week. a hall
models (under 17 hour)
under-16 month, campers
below sixteen day
under 16 week-long pupils
turning 16 day students
under 14 nursing students
under 16 week club
below 16 day students
sub 16 day students
younger than 16 day students
less than 16 day students
fewer than 15 week pupils
not yet 16 day students
almost 16 day students
<16 day students
≤15 week pupils
under 16 foot models
under 16 metre swimmers
under 16 point players
under 16 degree students
under 16 stone women
they are 16 day students
they are 14 minute models
we are 15 week pupils
she is 16 day student
a 16 day student
a 14-week pupil
the 15 minute model
a 16 month patient
under 16 day with students
under 16 day for the students
under 16 camp with students
under sixteen day of pupils
a model [15]
a K-5 classroom
before her 18th birthday
until his eighteenth birthday
15 or so years old
fifteen or so years of age
a person born in 2015
born in 2009
a model, born on 3 May 2014
born May 3, 2016
born (2012)
a XII-year-old
aged XIV
at the age of XVI
a sixth former
two first-formers
the fifth former
""")

DISGUISED = _lines("""
ch1ld
chi1d
ch!ld
k!d
k1d
b@by
b4by
t33nager
t€€n
ｔｅｅｎ
c h i l d
c.h.i.l.d
c-h-i-l-d
t_e_e_n
t e e n s
chi-ld
tee-nager
under_age
chiiiild
teeeen
chhiilldd
ki\u200bd
ch\u200bild
chi\u00adld
ch\u2060ild
chi\ufeffld
ch\u202eild
ch\u0000ild
chi\u0336ld
сhild
chіld
ϲhild
ᴄʜɪʟᴅ
ⓚⓘⓓ
🅺🅸🅳
🇰🇮🇩
𝐜𝐡𝐢𝐥𝐝
𝓀𝒾𝒹
ｃｈｉｌｄ
chíld
çhïłđ
CHILD
\U0001f9d2
\U0001f476\U0001f3fd
少女
少\u200b女
12岁
十二岁
12歳
12살
12 лет
12 ans
12 Jahre alt
12 años
a 12\u2010year\u2010old
a 12\u2011year\u2011old
a 12\u2012year\u2012old
a 12\u2013year\u2013old
a 12\u2014year\u2014old
a 12\u2015year\u2015old
a 12\u2212year\u2212old
a 12\u00adyear\u00adold
a 12\u200byear\u200bold
a 12\u3000year\u00a0old
a 1\u200b2 year old
a ١٢ year old
a ۱۲ year old
a १२ year old
a １２ year old
a 𝟏𝟐 year old
a ⑫ year old
a 1️⃣2️⃣ year old
a l2 year old
a 1o year old
a s1xteen year old
a tw3lve-year-old
a sixteeen year old
a 12 y e a r o l d
a 1 2 y e a r o l d
s i x t e e n years old
age l2
aged 1O
kidz
fourteen\u00adyear\u00adold
seventeenyearsold
under\u2212eighteens
school\u2014girl
aged １２
under\u201118s
under 1８
she’s １6
""")

ALLOWED = _lines("""
game boy
a game boy
an old game-boy
a Game Boy.
a game boy console on a table
a game boy color with a red case
game boy advance
a game boy cartridge, a radio
a portrait of an old woman in oil
a young woman at a window
a young man with a hat
an adult
two adults talking
a lady in red
a mother and her daughter
an old couple
a student in a university library
a bride and groom
a dog and a cat
a puppy
a kitten
a cowboy and his girlfriend
a boyfriend
infantry on a hill
the canteen
a mandolin
a kidney bean
a hat trick
a kidnapped parcel
a ladder
glass
a total
a tote bag
a totem pole
a teapot
a babysitting robot
girders of steel
a girdle
boycott
a buoy
a lollipop
a putting green
a childless street
nineteen trees
a baby elephant near a fence
an adult and baby elephant in a field
baby-elephant drawing
two baby giraffes
a baby zebra by a lake
a baby turtle on a beach
baby blue sky
a baby-blue sky
a baby blue blanket
baby pink roses
a baby grand piano
baby carrots on a plate
baby spinach
a sonata in a minor key
a minor chord
a minor scale
a minor detail
minor damage to the wall
minor injuries
a minor planet
Ursa Minor above the sea
Canis Minor
a map of Asia Minor
a plant nursery
a teeny tiny house
tater tots
a horn that goes toot
an undersea cave
a school of fish
a school bus
a high tower, school of art
eighteen years old
an 18 year old
a 19 year old man
a 19yo man
an 18yo woman
twenty-one years old
a twenty one year old
a twenty-five-year-old man
twentythree years old
thirty-seven years old
a sixty-five year old man
ninety-nine years old
a 21-year-old
a 30 yo woman
a 118 year old oak
an 80 years old house
a hundred years old
one hundred years old
one hundred and twelve years old
three hundred year old walls
two thousand years old
a 2,000 year old city
a 2.000 years old city
12,000 years old
12 000 years old
5 million years old
1.5 billion years old
a 10k years old wall
a centuries-old oak
an age-old custom
aged 18
aged 18 to 25
aged between 20 and 30
age 21
ages 18-99
age: 45
at the age of 40
turned 30
turning 50
she is 25
she is 25, posing
she's 40
he was 70
they are 30
a woman, 45, on a chair
a man (52)
a woman of 60
a 45 year model
18 to 25 years old
over 18
over 21s only
18+
adults 18 and over
under 30
under 21
less than 100
younger than 40
her 40th birthday
the company is 100 years old
17 years ago
5 years later
a 10 year plan
in 3 years
a ten-year anniversary
12 years of war
16 winters ago
the past 3 summers
sixteenth-century church
a 17th century painting
17th century painting, 4k, f/1.8
a 16th-century map
the third floor
a 5-foot-tall statue
she is 5-foot-tall
golden age of sail
the ice age 2 poster
the stone age, 3 spears
middle ages, 12 knights
the bronze age, 12 axes
for ages, 12 trees have stood here
12 trees of great age
under 3 trees
under three trees
under 3 tall trees
under five arches
under two umbrellas
under 12 stars
under 16 lamps
under 5 metres
under 10 feet of water
under 15 percent
under 18 inch shelf
under 16 metre wall
under 16 in tall
under 10%
under 5 minutes
under 16 minute walk
under 16-minute walk
under 17 hour shift
under 17-hour shift
under 16 day trip
under 17 month lease
under 16 seconds delay
under 16 second delay
under 16 second delays
under 16 second exposure
under 16-second exposure
under 17 second clip
under 16 second videos
under 16 second countdown
under 16 sec delay
under 16 minute delay
under 3 red flowers
under 12 tall towers
under 16 minute exposure
under 16 hour exposure
under 16 day delay
under 16 day exhibition
under 16 week course
under 16 minutes on the clock
under 16 minutes
under 16 days, a street
under one hour, a street
under 1 minute
a walk of under 16-minute length
under 16 minutes from the sea
under 5 metres of water, a woman on a boat
under 16 minute walk to a woman
under 16 hours for the players
a 16 day trip
a 14 hour flight
a 6 foot man
a 6 foot tall model
under 12 inches
below 10 degrees
below 3 windows
below zero
beneath 7 bridges
less than 5 people
fewer than 10 people
less than 3 apples
less than 12 hours
no more than 4 chairs
almost 5 trees
nearly 12 birds
nearly 10 metres
before 3 trees
before 5 pm
before 10 am
before three doors
i <3 trees
<5%
u2 on a stage
turning 5 degrees
turned 3 times
turning two pages
turns 12 corners
she is 5 feet tall
he is 6 ft tall
she is 170 cm tall
she is one of them
he is 10 metres away
they are two
they are three, standing
they are three friends
we are five
you are one
a group of 12
a team of 11
women of 12 nations
two women, three men
a 12 man crew
an 11 man team
a two-woman band
the 3 models
three models
12 models on a stage
a model 3 car
a woman and 2 dogs
16 women
a two-handed sword
a six-pack of cans
a 7 storey building
a 3 bedroom house
grade 5 titanium
grade 8 bolts
a grade 2 listed building
a high-grade steel
first place
the first graded road
seventh heaven
sweet 15 grapes
sweet red apples
trending on artstation 2020, 85mm lens
16:9, 8k, 35mm
iso 100, f/16, 1/15 s
12:30 on the clock
16 megapixels
a size 12 shoe
channel 5
the number 7
seven
16
sixteen candles
a 17 inch screen
route 66
apollo 11
an f-16 over the sea
a v8 engine
the year 12 bc
10th street
may 5
room 12, floor 3
chapter 13
a clock at ten to six
on page 16 and 17
3 days in the city
5 weeks of rain
6 months of snow
a two-week trip
turn 5 knobs
not 3 but 4 chairs
the plant looks 5 metres tall
a house of 12 rooms
born in 1990
10 yrs later
a 5 yr plan
going on 12 trips
the baby\u2011blue car
old
12 old trees
3 old men
five old books
一把刀
красный дом
24 лет
30岁
二十五岁
15 y axes
12 answers
7ish
12 lamps on 3 poles
open for 10years, then shut
a 2-model set
a 2 model set
the 12 gentlemen
the men of 11
the women of 10 in blue
a woman of 12 talents
model 5 in blue
a 30 model
the models are 9 in all
the men are 9 in all
the total is 12
she is one with the sea
i am zero
i am 0
she is 5 miles out
she is 5 years away
she is 3 of 9 in line
under the 12 lamps
under just 3 trees
a u 12 profile
u7 bolts
the lower deck 12, rear
more than 12
not over 12
and yet 12, all red
under 9' tall
under 18-inch shelves
under 12-lamp arches
almost 9
before 12 and after
under 11 players
before 12-lamp posts
looks 18
looks 19
born 15 years before the war
under 12° slopes
under 12× zoom
under 9" deep
under 9' wide
under 12 $ each
under 12 € each
she is 6-foot tall
12 red birthday cards
the 13th grader
5th grade steel
13th grade
her 12th lamp
the 12th year of rain
in her 18th year
grade 13
the year 14 class
under 9 in wide
under 9 in, at most
under 9in wide
she is 6 by 9
a 'large' disc under 12" wide
she is 5 feet away
boeing 707s, parked
he is 12° off
she is 5× faster
she is 6' up
she is 9 $ short
she is 9 € short
14 seconds
14 second clip
a 14 second clip
a 14-second exposure
they are 14 seconds long
they are 14 second clips
they are 14-second clips
they are 14 seconds from the line
they are 14 first editions
they are 14 second hand books
they are 14 third editions
in under 14 seconds
under 14 second delays
a man, 14 seconds from the finish
14 seats in the second row
the second from the left of 14 chairs
second from left, 14 red balls
they are 14 left shoes
they are 14 front doors
they are 14 next pages
a cat with dilated pupils
her 18th birthday
a K-9 unit
a sea urchin
a chair [15]
15 or so paintings
an 18th birthday cake
vertical pupils
born in 2008
born in 1999, painted in 2015
the first former president
Louis XIV on a throne
part II of a series
under 16 minutes with music
the second former king
""")

REFUSED = (*WORDS_REFUSED, *EXCEPTIONS_NOT_MEANT, *AGES_REFUSED, *DISGUISED)
