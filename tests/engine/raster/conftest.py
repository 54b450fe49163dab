"""Numbers and places that tests of rasters share."""

import numpy as np

UTM = (10.0, 0.0, 500000.0, 0.0, -10.0, 5000000.0)
RNG = np.random.default_rng(0)
LAEA = (
    'PROJCS["here",GEOGCS["WGS 84",DATUM["WGS_1984",SPHEROID["WGS 84",6378137,298.257223563]],PRIMEM["Greenwich",0],'
    'UNIT["degree",0.0174532925199433]],PROJECTION["Lambert_Azimuthal_Equal_Area"],PARAMETER["latitude_of_center",{lat}],'
    'PARAMETER["longitude_of_center",{lon}],PARAMETER["false_easting",0],PARAMETER["false_northing",0],UNIT["metre",1]]'
)


def numbers(dtype, bands=3, shape=(40, 50)):
    return RNG.integers(1, 120, (bands, *shape)).astype(dtype)
