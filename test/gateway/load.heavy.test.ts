import { underLoad } from '../support/load.ts';

underLoad(60_000);
