"""The words that make titles, tags and names of the simulated shop and its people."""

from __future__ import annotations

from typing import Final

#: Attribute -> the words that show it, by the place that it takes in a title.
SHAPES: Final = {
    "boho": "boho bohemian", "vintage": "vintage retro", "cosy": "cozy cosy snuggly", "warm": "warm warmth",
    "work": "office professional", "summer": "summer sundress summery", "beach": "beach vacation resort",
    "party": "wedding party cocktail formal", "lounging": "lounging lounge pajamas", "high-waisted": "waisted highwaisted",
    "cropped": "cropped crop", "oversized": "oversized", "slim": "skinny slim",
    "peplum": "peplum", "hooded": "hood hooded", "reversible": "reversible",
    "pleated": "pleats pleated", "ruffled": "ruffle ruffles ruffled", "quilted": "quilted quilting", "sheer": "sheer",
}  # fmt: skip
COLOURS: Final = {
    "red": "red", "navy": "navy", "black": "black", "white": "white", "blue": "blue", "green": "green", "pink": "pink",
    "grey": "grey gray", "orange": "orange", "yellow": "yellow", "purple": "purple plum", "ivory": "ivory cream",
    "burgundy": "burgundy wine maroon", "teal": "teal turquoise", "mustard": "mustard", "brown": "brown taupe",
    "coral": "coral", "olive": "olive moss",
}  # fmt: skip
PATTERNS: Final = {
    "floral": "floral flower flowers", "striped": "stripe stripes striped", "plaid": "plaid tartan", "paisley": "paisley",
    "embroidered": "embroidery embroidered", "dotted": "polka dots", "checked": "gingham checked", "printed": "print prints",
    "beaded": "beads beaded beading", "fringed": "fringe tassels", "tie-dye": "dye", "metallic": "metallic sparkle sparkly shimmer",
}  # fmt: skip
MATERIALS: Final = {
    "linen": "linen", "silk": "silk silky", "cotton": "cotton", "wool": "wool", "cashmere": "cashmere", "velvet": "velvet",
    "lace": "lace", "denim": "denim", "leather": "leather", "suede": "suede", "chiffon": "chiffon", "corduroy": "cords corduroy",
    "fleece": "fleece", "jersey": "jersey", "mesh": "mesh", "crochet": "crochet crocheted", "satin": "satin", "tulle": "tulle",
    "eyelet": "eyelet", "tweed": "tweed", "mohair": "mohair alpaca", "ponte": "ponte", "fur": "fur", "down": "puffer",
}  # fmt: skip
#: Class -> its plain noun, then the nouns that reviewers may put in its place.
NOUNS: Final[dict[str, tuple[str, ...]]] = {
    "Dresses": ("dress", "maxi", "shift", "sundress", "tunic", "slip", "shirtdress", "romper"),
    "Knits": ("knit top", "tee", "tank", "tunic", "sweatshirt", "henley", "cardigan", "poncho", "hoodie"),
    "Blouses": ("blouse", "tunic", "tank", "shirt", "cami", "kimono", "peasant"),
    "Sweaters": ("sweater", "cardigan", "poncho", "turtleneck", "vest", "pullover", "tunic"),
    "Fine gauge": ("fine-knit sweater", "cardigan", "tank", "tee", "turtleneck", "poncho", "shell"),
    "Pants": ("trousers", "leggings", "cargos", "joggers", "chinos", "cords", "culottes", "jumpsuit", "overalls"),
    "Jeans": ("jeans", "boyfriend", "flares", "bootcut", "overalls"),
    "Skirts": ("skirt", "pencil", "maxi", "mini", "midi"),
    "Shorts": ("shorts", "romper", "skort"),
    "Jackets": ("jacket", "blazer", "bomber", "cardigan", "vest", "kimono", "coat", "cape", "moto"),
    "Outerwear": ("coat", "parka", "vest", "poncho", "cape", "trench", "cardigan", "puffer"),
    "Lounge": ("lounge set", "robe", "leggings", "sweatshirt", "hoodie", "tunic", "tee", "tank", "cardigan", "joggers", "dress"),
    "Sleep": ("nightwear", "robe", "chemise", "pajamas", "nightgown", "kimono"),
    "Swim": ("swimsuit", "bikini", "coverup", "tankini"),
    "Legwear": ("tights", "socks", "leggings"),
    "Layering": ("layering top", "cami", "slip", "tank", "bralette"),
    "Intimates": ("intimates", "bra", "bralette", "chemise", "bodysuit", "slip"),
}  # fmt: skip
#: Nouns that need their class behind them.
ADJECTIVES: Final = {
    "maxi", "shift", "slip", "tunic", "peasant", "boyfriend", "flares", "bootcut", "pencil", "mini", "midi", "moto", "bomber",
}  # fmt: skip
PRICES: Final = {"Tops": 68, "Dresses": 138, "Bottoms": 98, "Intimate": 48, "Jackets": 158}
#: Made-up names of styles, for articles that reviewers do not describe apart.
STYLES: Final = (
    "Alba", "Bryony", "Calla", "Delphine", "Elowen", "Fleur", "Greta", "Hollis", "Isla", "Juno", "Kit", "Lark", "Marlow",
    "Nell", "Odette", "Posy", "Quincy", "Romy", "Sable", "Tansy", "Una", "Vesper", "Willa", "Xenia", "Yara", "Zinnia",
)  # fmt: skip
NAMES: Final = (
    "ada", "alma", "anna", "aria", "asha", "beth", "carla", "cleo", "dana", "dora", "edie", "elsa",
    "emma", "erin", "etta", "fay", "flora", "gemma", "gia", "grace", "hana", "hazel", "helen", "ida",
    "ilse", "iris", "ivy", "jane", "jo", "june", "kara", "kate", "lea", "lena", "lila", "lola",
    "lucy", "luz", "mae", "mara", "maya", "mila", "mina", "mona", "nadia", "nina", "noor", "olga",
    "opal", "paula", "pia", "rhea", "rosa", "sara", "sofia", "stella", "suki", "tara", "tess", "thea",
    "uma", "vera", "viola", "wanda", "willow", "ximena", "yana", "zara", "zoe",
)  # fmt: skip
