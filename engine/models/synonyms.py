"""The everyday words for the classes of the data sets that our models learned from."""

from __future__ import annotations

from collections.abc import Mapping

#: class -> words and phrases in lower case, the class as people write it first.
Table = Mapping[str, tuple[str, ...]]


def _table(words: Mapping[str, str]) -> Table:
    return {name: tuple(line.split(", ")) for name, line in words.items()}


# Within a table, longer phrases win over the words in them, so that "apple orchard" is no fruit, "sea lake" is one
# thing and a "tank farm" has no fields. A word stands for one class of a table; what no class shows (a lake at 0.3 m)
# is left out, so that a text that asks for it is answered with what there is.

#: EuroSAT: ten land covers of Europe at 10 m.
EUROSAT = _table(
    {
        "AnnualCrop": (
            "annual crop, annual crops, crop, crops, cropland, field, fields, farmland, farm, farms, arable, "
            "arable land, wheat, maize, corn, barley, rapeseed, canola, sunflower, sunflowers, potato, potatoes, "
            "sugar beet, cereal, cereals, grain, agriculture, agricultural, ploughed, plowed, tilled, harvest, "
            "cultivated"
        ),
        "Forest": (
            "forest, forests, forested, wood, woods, woodland, woodlands, tree, trees, jungle, conifer, conifers, "
            "coniferous, deciduous, pine, pines, spruce, beech, oak, rainforest, taiga, timber"
        ),
        "HerbaceousVegetation": (
            "herbaceous vegetation, herbaceous, vegetation, shrub, shrubs, shrubland, scrub, scrubland, heath, "
            "heathland, heather, bush, bushes, moor, moorland, maquis, garrigue, steppe, savanna, savannah, "
            "natural vegetation"
        ),
        "Highway": (
            "highway, highways, motorway, motorways, freeway, expressway, road, roads, interchange, autobahn, "
            "dual carriageway, interstate, junction, street crossing"
        ),
        "Industrial": (
            "industrial, industry, industrial area, industrial buildings, industrial estate, factory, factories, "
            "warehouse, warehouses, commercial, commercial area, port, harbour, harbor, logistics, depot, retail "
            "park, business park, airport, refinery, power plant, greenhouses"
        ),
        "Pasture": (
            "pasture, pastures, grass, grassland, grasslands, meadow, meadows, grazing, grazing land, hay, "
            "prairie, lawn, cattle, sheep, dairy"
        ),
        "PermanentCrop": (
            "permanent crop, permanent crops, vineyard, vineyards, vines, vine, grapes, orchard, orchards, apple "
            "orchard, olive, olives, olive grove, olive groves, olive trees, fruit trees, plantation, "
            "plantations, citrus, almond, almonds, hops, palm plantation"
        ),
        "Residential": (
            "residential, residential area, residential buildings, house, houses, housing, homes, suburb, "
            "suburbs, suburban, town, towns, village, villages, city, cities, urban, neighbourhood, neighborhood, "
            "settlement, settlements, built up, estate, apartments, garden city"
        ),
        "River": (
            "river, rivers, stream, streams, canal, canals, creek, riverbank, meander, meanders, waterway, "
            "waterways, watercourse, estuary"
        ),
        "SeaLake": (
            "sea lake, sea, lake, lakes, ocean, water, open water, reservoir, reservoirs, lagoon, bay, pond, "
            "seawater, body of water, loch"
        ),
    }
)

#: UC Merced Land Use: 21 land uses of American cities at 0.3 m.
UCMERCED = _table(
    {
        "agricultural": (
            "agricultural, agricultural land, agricultural field, agricultural fields, agriculture, crop, crops, "
            "cropland, field, fields, farmland, farm, farms, arable, arable land, wheat, maize, corn, barley, "
            "rice, cereal, cereals, vegetables, plough, ploughed, plowed, tilled, harvest, harvested, furrows, "
            "cultivated, plantation, plantations"
        ),
        "airplane": (
            "airplane, airplanes, aeroplane, aeroplanes, plane, planes, aircraft, jet, jets, jet plane, jet "
            "planes, airliner, airliners, parked airplanes, parked planes, airport, airports, airport terminal, "
            "airport apron, apron"
        ),
        "baseballdiamond": (
            "baseball diamond, baseball diamonds, baseball, baseball field, baseball fields, baseball pitch, "
            "baseball park, baseball stadium, ball field, ball fields, ballfield, ballpark, softball, softball "
            "field, infield, outfield, diamond"
        ),
        "beach": (
            "beach, beaches, sandy beach, sand beach, sand, shore, shores, shoreline, seashore, seaside, coast, "
            "coasts, coastal, coastline, surf, wave, waves, breakers, sea, ocean, ocean shore, dunes, strand"
        ),
        "buildings": (
            "buildings, building, office building, office buildings, office block, offices, commercial, "
            "commercial area, commercial building, commercial buildings, business park, warehouse, warehouses, "
            "industrial, industry, industrial area, industrial building, industrial buildings, factory, "
            "factories, skyscraper, skyscrapers, high rise, high rises, tower block, tower blocks, downtown, city "
            "centre, city center, city, cities, urban, shopping mall, shopping centre, shopping center, mall, "
            "roof, roofs, rooftop, rooftops"
        ),
        "chaparral": (
            "chaparral, shrub, shrubs, shrubland, scrub, scrubland, brush, brushland, bush, bushes, bushland, "
            "sagebrush, maquis, garrigue, heath, heathland, moorland, steppe, semi desert, semidesert, arid, "
            "dryland, dry vegetation, herbaceous vegetation, savanna, savannah"
        ),
        "denseresidential": (
            "dense residential, dense residential area, densely residential, dense housing, dense houses, dense "
            "suburb, dense neighbourhood, dense neighborhood, densely built, densely built up, densely populated, "
            "high density housing, high density residential, closely spaced houses, crowded houses, packed "
            "houses, terraced houses, terraced housing, terrace houses, row houses, row housing, townhouse, "
            "townhouses, town houses, apartment, apartments, apartment block, apartment blocks, apartment "
            "buildings, residential blocks, housing blocks"
        ),
        "forest": (
            "forest, forests, forested, wood, woods, wooded, woodland, woodlands, tree, trees, canopy, tree "
            "canopy, jungle, rainforest, conifer, conifers, coniferous, deciduous, pine, pines, spruce, beech, "
            "oak, oaks, taiga, timber"
        ),
        "freeway": (
            "freeway, freeways, highway, highways, motorway, motorways, expressway, expressways, interstate, "
            "turnpike, autobahn, dual carriageway, carriageway, road, roads, main road, traffic lanes, lanes"
        ),
        "golfcourse": (
            "golf course, golf courses, golf, golf links, golf club, golf green, golf greens, putting green, "
            "putting greens, fairway, fairways, sand trap, sand traps, bunker, bunkers"
        ),
        "harbor": (
            "harbor, harbors, harbour, harbours, marina, marinas, port, ports, boat, boats, sailing boat, sailing "
            "boats, sailboat, sailboats, yacht, yachts, ship, ships, dock, docks, docked boats, jetty, jetties, "
            "pier, piers, quay, quays, wharf, berth, berths, mooring, moorings"
        ),
        "intersection": (
            "intersection, intersections, road intersection, street intersection, crossroads, crossroad, road "
            "crossing, street crossing, crossing, crossings, crosswalk, crosswalks, zebra crossing, junction, "
            "junctions, road junction, street junction, street corner, traffic light, traffic lights"
        ),
        "mediumresidential": (
            "medium residential, medium residential area, medium density residential, medium density housing, "
            "residential, residential area, residential areas, residential buildings, residential neighbourhood, "
            "residential neighborhood, house, houses, housing, housing estate, family houses, home, homes, "
            "suburb, suburbs, suburban, suburbia, neighbourhood, neighborhood, settlement, settlements, town, "
            "towns, village, villages, built up, built up area, gardens"
        ),
        "mobilehomepark": (
            "mobile home park, mobile home parks, mobile home, mobile homes, mobile housing, manufactured home, "
            "manufactured homes, trailer, trailers, trailer park, trailer parks, trailer home, trailer homes, "
            "caravan, caravans, caravan park, caravan parks, caravan site, static caravans, park homes, rv park"
        ),
        "overpass": (
            "overpass, overpasses, flyover, flyovers, bridge, bridges, road bridge, highway bridge, freeway "
            "bridge, motorway bridge, highway overpass, freeway overpass, road overpass, viaduct, viaducts, "
            "interchange, interchanges, highway interchange, freeway interchange, motorway interchange, elevated "
            "road, elevated highway"
        ),
        "parkinglot": (
            "parking lot, parking lots, parking, parking area, parking areas, parking space, parking spaces, "
            "parking garage, car park, car parks, carpark, carparks, parked car, parked cars, parked vehicles, "
            "car, cars, vehicle, vehicles, automobiles"
        ),
        "river": (
            "river, rivers, stream, streams, creek, creeks, brook, canal, canals, riverbank, river bank, "
            "riverside, meander, meanders, waterway, waterways, watercourse, water, estuary"
        ),
        "runway": (
            "runway, runways, airport runway, airport runways, airstrip, airstrips, airfield, airfields, landing "
            "strip, landing strips, taxiway, taxiways, tarmac"
        ),
        "sparseresidential": (
            "sparse residential, sparse residential area, sparsely residential, sparse housing, sparse houses, "
            "sparsely built, sparsely populated, low density housing, low density residential, rural residential, "
            "rural house, rural houses, rural, country house, country houses, countryside, farmhouse, farmhouses, "
            "farm house, farm houses, isolated house, isolated houses, scattered houses, single house, lone "
            "house, cottage, cottages, villa, villas, mansion, mansions, homestead, ranch"
        ),
        "storagetanks": (
            "storage tanks, storage tank, tank, tanks, tank farm, tank farms, oil tank farm, oil tank farms, oil tank, "
            "oil tanks, oil depot, oil storage, oil terminal, fuel tank, fuel tanks, fuel depot, fuel storage, "
            "gas tank, gas tanks, gas storage, petroleum tanks, chemical tanks, water tank, water tanks, silo, silos, "
            "refinery, refineries, oil refinery"
        ),
        "tenniscourt": (
            "tennis court, tennis courts, tennis, tennis club, tennis facility, tennis centre, tennis center, "
            "sports court, sports courts, hard court, clay court"
        ),
    }
)

#: Data set -> its words.
TABLES: Mapping[str, Table] = {"eurosat": EUROSAT, "ucmerced": UCMERCED}
