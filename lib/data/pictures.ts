export async function readPictures(_folder: string): Promise<{ subject: string[]; session: string[]; phase: string[]; path: string[] }> {
  throw new Error('stub until merge');
}
